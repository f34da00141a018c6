"""Made-up tables: a column of names, columns of values, at times headers over several columns or names over rows."""

from __future__ import annotations

from random import Random

from data_gen.documents.table import Cell, Table
from data_gen.documents.vocabulary import ENTITIES, GROUPS, MEASURES

MOST_ROWS = 10


def made_up_table(rng: Random, merged_share: float) -> Table:
    """A table by chance.

    Args:
        rng: the only source of chance.
        merged_share: how many of all tables have a header over two rows, and independently names over several rows.
    """
    subject, names = rng.choice([*ENTITIES.items()])
    rows = rng.randint(2, min(MOST_ROWS, len(names)))
    columns = rng.randint(1, 5)
    cells = two_row_header(subject, columns, rng) if rng.random() < merged_share else header(subject, columns, rng)
    first = max(cell.row + cell.rows for cell in cells)
    spans = name_spans(rows, rng) if rng.random() < merged_share else [1] * rows
    row = first
    for name, span in zip(rng.sample(names, len(spans)), spans, strict=True):
        cells.append(Cell(name, row, 0, rows=span))
        row += span
    for heading in [cell for cell in cells if cell.text in MEASURES]:
        value = MEASURES[heading.text](rng)
        cells += [Cell(value(), row, heading.column) for row in range(first, first + rows)]
    ordered = sorted(cells, key=lambda cell: (cell.row, cell.column))
    return Table(first + rows, columns + 1, tuple(ordered))


def header(subject: str, columns: int, rng: Random) -> list[Cell]:
    """One row: the subject, then a measure for each column."""
    texts = [subject, *rng.sample([*MEASURES], columns)]
    return [Cell(text, 0, column, is_header=True) for column, text in enumerate(texts)]


def two_row_header(subject: str, columns: int, rng: Random) -> list[Cell]:
    """The subject over both rows, groups in the upper one, each over one or more measures in the lower one."""
    cells = [Cell(subject, 0, 0, rows=2, is_header=True)]
    names, measures, column = rng.sample(GROUPS, columns), rng.sample([*MEASURES], columns), 1
    while column <= columns:
        width = rng.randint(1, columns + 1 - column)
        cells.append(Cell(names.pop(), 0, column, columns=width, is_header=True))
        cells += [Cell(measures.pop(), 1, k, is_header=True) for k in range(column, column + width)]
        column += width
    return cells


def name_spans(rows: int, rng: Random) -> list[int]:
    """How many rows each name takes, one to three, so that all rows are taken."""
    spans: list[int] = []
    while sum(spans) < rows:
        spans.append(rng.randint(1, min(3, rows - sum(spans))))
    return spans

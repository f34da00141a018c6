"""A table as cells on a grid, and as Markdown in which merged cells can be told (arXiv 2403.12895, section 3.1).

Markdown has no merged cells, so `<COLSPAN=2>` and `<ROWSPAN=3>` stand before the text of one; the other places that it
covers stay empty, and every row has as many cells as the table has columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

SIGNIFICANT_DIGITS = 4  # of numbers read off charts


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the row and column of its upper left corner from 0, and how many of them it takes."""

    text: str
    row: int
    column: int
    rows: int = 1
    columns: int = 1
    is_header: bool = False


@dataclass(frozen=True)
class Table:
    """Cells that cover a grid of rows and columns without overlap, in reading order."""

    rows: int
    columns: int
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]]) -> Table:
        """A table without merged cells, the first row its header."""
        cells = (
            Cell(text, row, column, is_header=row == 0)
            for row, texts in enumerate(rows)
            for column, text in enumerate(texts)
        )
        return cls(len(rows), len(rows[0]), tuple(cells))


def to_markdown(table: Table) -> str:
    """The table as Markdown; its first row becomes the header that Markdown demands."""
    grid = [[""] * table.columns for _ in range(table.rows)]
    for cell in table.cells:
        grid[cell.row][cell.column] = spans(cell) + escaped(cell.text)
    lines = [f"| {' | '.join(row)} |" for row in grid]
    return "\n".join([lines[0], "|" + " --- |" * table.columns, *lines[1:]])


def spans(cell: Cell) -> str:
    """What tells how far a merged cell reaches; nothing for one that is not merged."""
    columns = f"<COLSPAN={cell.columns}>" if cell.columns > 1 else ""
    return columns + (f"<ROWSPAN={cell.rows}>" if cell.rows > 1 else "")


def escaped(text: str) -> str:
    """Text on one line that does not end its cell."""
    return " ".join(text.replace("|", "\\|").split())


def four_digits(value: float) -> str:
    """A number with four significant digits, written out: 12345.6 -> "12350", 0.00012 -> "0.00012", 3.0 -> "3"."""
    rounded = Decimal(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return f"{rounded.normalize():f}" if rounded else "0"

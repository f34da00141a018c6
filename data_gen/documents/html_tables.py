"""Tables in HTML files: their cells on a grid, by the rules of browsers, or a ValueError that says what is broken."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from data_gen.documents.table import Cell, Table
from llava_som.images import ImageError

MOST_ROWS, MOST_COLUMNS = 200, 60
_UNSEEN = {"script", "style", "template"}
_ROW_GROUPS = ("thead", "tbody", "tfoot")


class WrittenRow(NamedTuple):
    """A row: the number of its group (head, body or foot of the table), and (text, columns, rows, is it a header)."""

    group: int
    cells: list[tuple[str, int, int, bool]]


class TableReader(HTMLParser):
    """Collects the tables of a page: for each its rows, as written."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[WrittenRow]] = []
        self.nested: set[int] = set()
        self._depth = self._unseen = self._group = 0
        self._cell: tuple[int, int, bool] | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a table, a row or a cell; each of them closes the cell before it."""
        self._unseen += tag in _UNSEEN
        if tag == "table":
            self._depth += 1
            if self._depth > 1:
                self.nested.add(len(self.tables) - 1)
            else:
                self.tables.append([])
        elif self._depth != 1:
            return
        elif tag == "tr":
            self._end_cell()
            self.tables[-1].append(WrittenRow(self._group, []))
        elif tag in _ROW_GROUPS:
            self._end_cell()
            self._group += 1
        elif tag in ("td", "th"):
            self._end_cell()
            given = dict(attrs)
            self._cell = span_of(given.get("colspan")), span_of(given.get("rowspan"), 0), tag == "th"
        elif tag in ("br", "p", "div", "li"):
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """Close a table or a cell."""
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        if tag in ("td", "th", "tr", "table", *_ROW_GROUPS) and self._depth == 1:
            self._end_cell()
            self._group += tag in _ROW_GROUPS
        if tag == "table":
            self._depth = max(0, self._depth - 1)

    def handle_data(self, data: str) -> None:
        """Keep the text of a cell."""
        if self._cell is not None and not self._unseen:
            self._text.append(data)

    def close(self) -> None:
        """End what the file left open."""
        super().close()
        self._end_cell()

    def _end_cell(self) -> None:
        if self._cell is not None:
            rows = self.tables[-1]
            if not rows:
                rows.append(WrittenRow(self._group, []))
            columns, spanned, is_header = self._cell
            rows[-1].cells.append((" ".join("".join(self._text).split()), columns, spanned, is_header))
        self._cell, self._text = None, []


def span_of(value: str | None, zero: int = 1) -> int:
    """How many columns or rows a cell takes; 1 where the attribute is no number, 0 rows are all that its group has."""
    if value is None or not re.fullmatch(r"\s*\+?\d{1,6}\s*", value):
        return 1
    return int(value) or zero


def read_tables(file: Path) -> TableReader:
    """The tables of an HTML file as they are written; an ImageError where there is none or it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ImageError(f"{file}: no such file. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{file}: cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None
    reader = TableReader()
    reader.feed(text)
    reader.close()
    if not reader.tables:
        raise ImageError(f"{file}: has no <table>. Leave the file out, or check that it is HTML.")
    return reader


def read_table(file: Path, number: int) -> Table:
    """Table `number` (from 0) of an HTML file; an ImageError where it is broken."""
    reader, place = read_tables(file), f"{file}, table {number + 1}"
    if number >= len(reader.tables):
        raise ImageError(f"{place}: the file has only {len(reader.tables)}. It was changed during the run; run again.")
    if number in reader.nested:
        raise ImageError(f"{place}: holds a table inside a cell. Take the inner one out, it cannot be put in Markdown.")
    try:
        return on_grid([row for row in reader.tables[number] if row.cells])
    except ValueError as error:
        raise ImageError(f"{place}: {error}") from None


def on_grid(rows: list[WrittenRow]) -> Table:
    """Cells in the places that browsers give them, none beyond its row group; places that no cell takes become empty.

    Raises:
        ValueError: there is no text, cells overlap, or the table is too large to be drawn.
    """
    if len(rows) > MOST_ROWS:
        raise ValueError(f"has {len(rows)} rows, at most {MOST_ROWS} can be drawn. Part the table.")
    taken: dict[tuple[int, int], int] = {}
    cells: list[Cell] = []
    ends = {given.group: row + 1 for row, given in enumerate(rows)}
    for row, given in enumerate(rows):
        column = 0
        for text, columns, spanned, is_header in given.cells:
            while (row, column) in taken:
                column += 1
            if column + columns > MOST_COLUMNS:
                raise ValueError(f"has more than {MOST_COLUMNS} columns, which cannot be drawn. Part the table.")
            left = ends[given.group] - row
            reach = min(spanned or left, left)
            places = [(row + down, column + right) for down in range(reach) for right in range(columns)]
            if any(place in taken for place in places):
                raise ValueError(f"the cell {text[:40]!r} in row {row + 1} reaches into another one. Mend its spans.")
            taken |= dict.fromkeys(places, len(cells))
            cells.append(Cell(text, row, column, reach, columns, is_header))
            column += columns
    if not any(cell.text for cell in cells):
        raise ValueError("has no text in any cell. Fill it, or leave it out.")
    width = 1 + max(column for _, column in taken)
    gaps = ((row, column) for row in range(len(rows)) for column in range(width) if (row, column) not in taken)
    cells += [Cell("", row, column) for row, column in gaps]
    return Table(len(rows), width, tuple(sorted(cells, key=lambda cell: (cell.row, cell.column))))

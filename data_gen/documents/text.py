"""A page as text whose white space shows its layout: the parsing target of documents (arXiv 2403.12895, section 3.1).

A line break for every row, and where words stand apart as many spaces as characters would fit, one to four.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from data_gen.documents.layout import character_width, regions, rows_of
from llava_som.data.page_record import Line, PageRecord, Word

MOST_SPACES = 4
Reading = Literal["rows", "columns"]


def page_text(page: PageRecord, reading: Reading = "rows") -> str:
    """What is written on a page.

    Args:
        page: the page.
        reading: rows, across the whole page as its layout shows them; columns, one column of text after the other.
    """
    if reading == "columns":
        parts = ([line for block in region for line in block.lines] for region in regions(page.blocks))
        return "\n".join(map(lines_text, parts))
    return lines_text(page.lines)


def lines_text(lines: Sequence[Line]) -> str:
    """The text of some lines, those that stand side by side in one row."""
    return "\n".join(row_text([word for line in row for word in line.words]) for row in rows_of(lines))


def row_text(words: Sequence[Word]) -> str:
    """The words of one row, from left to right, with spaces as wide as their gaps."""
    width = character_width(words)
    pieces = [words[0].text]
    for left, right in pairwise(words):
        pieces += [" " * spaces(right.box[0] - left.box[2], width), right.text]
    return "".join(pieces)


def spaces(gap: float, width: float) -> int:
    """How many characters of this width fit into a gap, in pixels both: 1 to 4.

    The last one needs three quarters of its room: stretched lines of justified text keep single spaces.
    """
    return min(MOST_SPACES, max(1, int(gap / width + 0.25)))

"""From words with boxes to lines and blocks in reading order, by geometry alone.

Words become rows where they overlap in height; a row is cut into lines at gaps as wide as one between columns; lines
that follow each other closely below one another become blocks; blocks are read by recursive XY cuts (Nagy and Seth,
1984): a gutter from top to bottom parts columns, otherwise the widest gap from left to right parts what is above from
what is below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, Protocol, TypeVar

from llava_som.data.page_record import Block, Box, Line, Word, around

COLUMN_GAP = 2.5  # characters; a wider gap in a row is one between columns
ROW_OVERLAP = 0.5  # of the lower of two boxes; more and they stand in one row
BLOCK_GAP = 0.9  # of a line's height, between lines of one block
COLUMN_LINES = 3  # a column has at least so many; fewer beside a gap are an entry and its value
BLOCK_SIZES = 1.5  # the most that the heights of neighbouring lines of a block differ by, as a ratio
LEADER = 4  # signs that stand for a leader: how many dots a contents page has between title and number, nobody counts
_OPEN_ROWS = 16  # words come sorted by height, so older rows take no more of them

_FILLS = "._·…"
_LONG_FILL = re.compile(rf"([{_FILLS}])\1{{{LEADER},}}")  # longer than a leader is written


class Boxed(Protocol):
    """What has a box: a word, a line, a block."""

    @property
    def box(self) -> Box: ...  # noqa: D102


T = TypeVar("T", bound=Boxed)


def blocks_of_words(words: Sequence[Word]) -> tuple[Block, ...]:
    """The words as blocks of lines in reading order."""
    return blocks_of_lines([line for row in rows_of(words) for line in lines_of_row(row)])


def rows_of(items: Sequence[T]) -> list[list[T]]:
    """What stands side by side, from top to bottom, each row from left to right.

    An item joins the row whose mean height it overlaps most.
    """
    rows: list[list[T]] = []
    bands: list[tuple[float, float]] = []
    for item in sorted(items, key=lambda item: (item.box[1] + item.box[3], item.box[0])):
        _, top, _, bottom = item.box
        shares = [(_shared((top, bottom), bands[k]), k) for k in range(max(0, len(rows) - _OPEN_ROWS), len(rows))]
        share, home = max(shares, default=(0.0, 0))
        if share <= ROW_OVERLAP:
            rows.append([item])
            bands.append((top, bottom))
            continue
        count = len(rows[home])
        upper, lower = bands[home]
        bands[home] = ((upper * count + top) / (count + 1), (lower * count + bottom) / (count + 1))
        rows[home].append(item)
    order = sorted(range(len(rows)), key=lambda k: sum(bands[k]))
    return [sorted(rows[k], key=lambda item: item.box[0]) for k in order]


def lines_of_row(row: Sequence[Word]) -> list[Line]:
    """A row with short leaders, cut where a gap is wider than one between words."""
    limit = COLUMN_GAP * character_width(row)
    row = list(with_short_leaders(row))
    lines: list[list[Word]] = [[row[0]]]
    for left, right in pairwise(row):
        if right.box[0] - left.box[2] > limit:
            lines.append([])
        lines[-1].append(right)
    return [Line(words=tuple(words)) for words in lines]


def with_short_leaders(row: Sequence[Word]) -> Iterator[Word]:
    """A row in which dots, and lines to write on, that fill a gap are one word of four signs in the place of all."""
    for fill, group in groupby(row, key=fill_of):
        words = list(group)
        if fill and sum(len(word.text) for word in words) > LEADER:
            yield Word(text=fill * LEADER, box=around(word.box for word in words))
        else:
            yield from map(with_short_fills, words)


def with_short_fills(word: Word) -> Word:
    """A word whose leader, as in "Date:________", is four signs long; any other as it is."""
    text = _LONG_FILL.sub(r"\1" * LEADER, word.text)
    return word if text == word.text else Word(text=text, box=word.box)


def fill_of(word: Word) -> str:
    """The sign that a word of a leader consists of; empty for any other word."""
    return word.text[0] if word.text[:1] in _FILLS and len(set(word.text)) == 1 else ""


def character_width(words: Sequence[Word]) -> float:
    """Pixels a character takes, on average; never 0. Words with a leader do not count, as signs of it are left out."""
    words = [word for word in words if not any(fill * LEADER in word.text for fill in _FILLS)] or words
    width = sum(word.box[2] - word.box[0] for word in words)
    return max(1.0, width / max(1, sum(len(word.text) for word in words)))


def blocks_of_lines(lines: Sequence[Line]) -> tuple[Block, ...]:
    """The lines as blocks, in reading order."""
    groups: list[list[Placed]] = []
    for row in rows_of(lines):
        for line in row:
            placed = Placed(line, line.box, is_alone=len(row) == 1)
            home = next((group for group in reversed(groups) if _follows(placed, group[-1])), None)
            if home is None:
                groups.append(home := [])
            home.append(placed)
    blocks = [Block(lines=tuple(placed.line for placed in group)) for group in groups]
    return tuple(block for region in regions(blocks) for block in region)


class Placed(NamedTuple):
    """A line, its box, and whether its row has no other."""

    line: Line
    box: Box
    is_alone: bool


def _follows(one: Placed, last: Placed) -> bool:
    """Whether a line goes on below the last one of a block: near, about as high, under it, and both alone or neither.

    Where a line across the page meets columns, one is alone in its row and the other is not.
    """
    small, large = sorted(max(1, box[3] - box[1]) for box in (one.box, last.box))
    is_near = -0.5 * small < one.box[1] - last.box[3] <= BLOCK_GAP * small
    is_below = _shared((one.box[0], one.box[2]), (last.box[0], last.box[2])) >= 0.5
    return is_near and is_below and large <= BLOCK_SIZES * small and one.is_alone == last.is_alone


def _shared(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The common part of two spans, as a share of the shorter one."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common / max(1.0, min(one[1] - one[0], other[1] - other[0]))


def regions(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks in the order in which a person reads them, parted where columns or wide gaps part the page."""
    cut = _columns(blocks) or _widest_cut(blocks, axis=1)
    if cut is None:
        return [sorted(blocks, key=lambda block: (block.box[1], block.box[0]))]
    first, second = cut
    return [*regions(first), *regions(second)]


def _columns(blocks: Sequence[Block]) -> tuple[list[Block], list[Block]] | None:
    """The blocks on the two sides of a gutter, where each side has enough lines for a column."""
    cut = _widest_cut(blocks, axis=0)
    is_wide = cut is not None and all(sum(len(block.lines) for block in side) >= COLUMN_LINES for side in cut)
    return cut if is_wide else None


def _widest_cut(blocks: Sequence[Block], axis: int) -> tuple[list[Block], list[Block]] | None:
    """The blocks on the two sides of the widest gap along an axis (0: x, 1: y) that no block reaches into."""
    ordered = sorted(blocks, key=lambda block: block.box[axis])
    widest, place, reach = 0, 0, ordered[0].box[axis + 2] if ordered else 0
    for k, block in enumerate(ordered[1:], start=1):
        if block.box[axis] - reach > widest:
            widest, place = block.box[axis] - reach, k
        reach = max(reach, block.box[axis + 2])
    return (ordered[:place], ordered[place:]) if place else None

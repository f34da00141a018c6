"""Tables as pictures in many styles, with the place of every word that is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageDraw

from data_gen.documents.fonts import FAMILIES, load_font, missing_characters
from data_gen.documents.table import Cell, Table
from llava_som.data.page_record import Block, Line, Word

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
LONGEST_SIDE = 6000  # pixels
WIDEST_TEXT = 22  # of a cell, in heights of its font; what is longer is wrapped


@dataclass(frozen=True)
class Style:
    """How a table looks: pixels are of the picture."""

    family: str
    font_px: int
    padding: tuple[int, int]  # sideways, up and down
    margin: int
    rules: Literal["all", "rows", "header", "none"]
    rule_px: int
    align: Literal["left", "centre", "numbers right"]
    ink: Colour
    paper: Colour
    rule: Colour
    header: Colour
    stripe: Colour
    has_bold_header: bool

    @classmethod
    def drawn(cls, table: Table, rng: Random) -> Style:
        """A style by chance, dark on light or seldom light on dark, always with enough contrast to be read.

        Merged cells get rules on every side: without them nobody sees how far they reach.
        """
        is_merged = any(cell.rows * cell.columns > 1 for cell in table.cells)
        is_dark = rng.random() < 0.1
        ink = shade(rng, 215, 255) if is_dark else shade(rng, 0, 70)
        paper = shade(rng, 15, 45) if is_dark else rng.choice([(255, 255, 255), shade(rng, 242, 255)])
        tints = (shade(rng, 40, 80), shade(rng, 30, 60)) if is_dark else (shade(rng, 205, 240), shade(rng, 232, 252))
        return cls(
            family=rng.choice(FAMILIES),
            font_px=rng.randint(16, 30),
            padding=(rng.randint(6, 22), rng.randint(4, 14)),
            margin=rng.randint(6, 60),
            rules="all" if is_merged else rng.choice(["all", "rows", "header", "none"]),
            rule_px=rng.randint(1, 3),
            align=rng.choice(["left", "centre", "numbers right"]),
            ink=ink,
            paper=paper,
            rule=shade(rng, 120, 190) if is_dark else shade(rng, 40, 190),
            header=rng.choice([paper, tints[0]]),
            stripe=rng.choice([paper, paper, tints[1]]),
            has_bold_header=rng.random() < 0.7,
        )

    def font(self, cell: Cell) -> FreeTypeFont:
        """The font of a cell."""
        return load_font(self.family, cell.is_header and self.has_bold_header, self.font_px)


def shade(rng: Random, darkest: int, lightest: int) -> Colour:
    """A colour whose parts lie between two values, near each other."""
    base = rng.randint(darkest, lightest)
    red, green, blue = (min(lightest, max(darkest, base + rng.randint(-18, 18))) for _ in range(3))
    return red, green, blue


def draw_table(table: Table, style: Style) -> tuple[Image.Image, tuple[Block, ...]]:
    """The picture of a table, and its text: a block for each cell.

    Raises:
        ValueError: the font lacks a character, or the picture would be too large.
    """
    if missing := missing_characters("".join(cell.text for cell in table.cells), style.family):
        raise ValueError(f"the font {style.family} cannot draw {missing[:20]!r}. Leave the table out.")
    wrapped = {cell: wrap(cell.text.split(), style.font(cell), WIDEST_TEXT * style.font_px) for cell in table.cells}
    widths, heights = grid_sizes(table, style, wrapped)
    lefts = [style.margin, *(style.margin + x for x in accumulate(widths))]
    tops = [style.margin, *(style.margin + y for y in accumulate(heights))]
    size = lefts[-1] + style.margin, tops[-1] + style.margin
    if max(size) > LONGEST_SIDE:
        raise ValueError(f"would be {size[0]} x {size[1]} pixels large, more than {LONGEST_SIDE}. Part the table.")
    image = Image.new("RGB", size, style.paper)
    draw = ImageDraw.Draw(image)
    blocks = []
    for cell in table.cells:
        box = lefts[cell.column], tops[cell.row], lefts[cell.column + cell.columns], tops[cell.row + cell.rows]
        fill = style.header if cell.is_header else style.stripe if cell.row % 2 else style.paper
        draw.rectangle((*box[:2], box[2] - 1, box[3] - 1), fill=fill)
        if lines := tuple(draw_text(draw, wrapped[cell], box, style, cell)):
            blocks.append(Block(lines=lines))
    for box in ruled(table, style, lefts, tops):
        draw.rectangle(box, fill=style.rule)
    return image, tuple(blocks)


def wrap(words: Sequence[str], font: FreeTypeFont, width: int) -> list[list[str]]:
    """Words in lines no wider than that many pixels, but for single words that are."""
    lines: list[list[str]] = []
    for word in words:
        if lines and font.getlength(" ".join([*lines[-1], word])) <= width:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def grid_sizes(table: Table, style: Style, wrapped: dict[Cell, list[list[str]]]) -> tuple[list[int], list[int]]:
    """Widths of the columns and heights of the rows in which every cell has room; merged cells widen their last one."""
    widths, heights = [style.font_px] * table.columns, [style.font_px] * table.rows
    for cell in sorted(table.cells, key=lambda cell: (cell.columns, cell.rows)):
        font, lines = style.font(cell), wrapped[cell]
        width = 2 * style.padding[0] + max((round(font.getlength(" ".join(line))) + 1 for line in lines), default=0)
        height = 2 * style.padding[1] + max(1, len(lines)) * sum(font.getmetrics())
        last_column, last_row = cell.column + cell.columns - 1, cell.row + cell.rows - 1
        widths[last_column] += max(0, width - sum(widths[cell.column : last_column + 1]))
        heights[last_row] += max(0, height - sum(heights[cell.row : last_row + 1]))
    return widths, heights


def draw_text(
    draw: ImageDraw.ImageDraw, lines: Sequence[Sequence[str]], box: Sequence[int], style: Style, cell: Cell
) -> Iterator[Line]:
    """Draw the lines of a cell into its box, word by word; yields them with their places."""
    font = style.font(cell)
    ascent, descent = font.getmetrics()
    top = box[1] + (box[3] - box[1] - len(lines) * (ascent + descent)) // 2
    is_right = style.align == "numbers right" and cell.text[:1] in "+-$€£0123456789" and not cell.is_header
    for number, texts in enumerate(lines):
        room = box[2] - box[0] - 2 * style.padding[0] - font.getlength(" ".join(texts))
        left = box[0] + style.padding[0] + room * (1 if is_right else 0.5 if style.align == "centre" else 0)
        line_top = top + number * (ascent + descent)
        words = []
        for text in texts:
            draw.text((round(left), line_top), text, font=font, fill=style.ink)
            right = round(left) + max(1, round(font.getlength(text)))
            words.append(Word(text=text, box=(round(left), line_top, right, line_top + ascent + descent)))
            left += font.getlength(f"{text} ")
        yield Line(words=tuple(words))


def ruled(table: Table, style: Style, lefts: Sequence[int], tops: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """The rules of a table as filled boxes, both ends included; none cuts through a merged cell."""
    wide = style.rule_px - 1
    headers = max((cell.row + cell.rows for cell in table.cells if cell.is_header and cell.row == 0), default=0)
    for cell in table.cells:
        left, right = lefts[cell.column], lefts[cell.column + cell.columns]
        top, bottom = tops[cell.row], tops[cell.row + cell.rows]
        has_top = style.rules in ("all", "rows") or (style.rules == "header" and cell.row in (0, headers))
        if has_top:
            yield left, top, right, top + wide
        if style.rules != "none" and cell.row + cell.rows == table.rows:
            yield left, bottom, right, bottom + wide
        if style.rules == "all":
            yield left, top, left + wide, bottom
            yield right, top, right + wide, bottom

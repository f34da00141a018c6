"""A page with its tiles and what pruning leaves of it, as a figure.

Tiles stand apart, so that the cuts show and no number covers the page; what is dropped lies under a blue veil, which
is darker than paper, lighter than ink, and told from both without colour vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from llava_som.token_map import TileTokens, TokenMap

Rgb = tuple[int, int, int]

LONGEST_SIDE = 2000
"""Pixels of a figure, about; pages are shrunk to it, never enlarged to it."""
VEIL: Rgb = (0, 92, 158)
VEIL_OPACITY = 0.55
_PAPER, _PADDING, _TRACK, _FAINT, _INK = ((grey, grey, grey) for grey in (255, 205, 222, 110, 30))
_NARROWEST_TILE = 260  # pixels: the numbers of a tile fit above it
_SMALLEST_FONT = 11
_NARROWEST_FIGURE = 32  # times the font: the key fits into a line


@dataclass(frozen=True)
class _Sizes:
    """Lengths of one figure, in pixels.

    Attributes:
        cell: width and height of a tile.
        font_px: of the numbers of tiles.
        gap: between tiles, and between a tile and its numbers.
    """

    cell: tuple[int, int]
    font_px: int
    gap: int

    @classmethod
    def of(cls, token_map: TokenMap, tiles: bool) -> _Sizes:
        """The page's own size, unless tiles get too narrow for their numbers or the figure too large."""
        left, top, right, bottom = token_map.frame
        page = token_map.page
        width, height = (right - left) / page.cols, (bottom - top) / page.rows
        cols = page.cols + (tiles and page.has_global)
        scale = max(1.0, _NARROWEST_TILE / width) if tiles else 1.0
        scale = min(scale, LONGEST_SIDE / max(cols * width, page.rows * height))
        longest = scale * max(cols * width, page.rows * height)
        font_px = max(16, round(longest / 75))
        cell = (max(1, round(scale * width)), max(1, round(scale * height)))
        return cls(cell, font_px, gap=round(0.6 * font_px))

    @property
    def text_height(self) -> int:
        """Of the line of text above a tile."""
        return round(1.35 * self.font_px)

    @property
    def bar(self) -> int:
        """Height of the bar of a tile's density."""
        return max(4, self.font_px // 4)

    @property
    def caption(self) -> int:
        """Height of all that stands above a tile."""
        return self.text_height + self.bar + self.gap // 2

    @property
    def column_gap(self) -> int:
        """Between the global tile and the crops."""
        return 2 * self.gap


def draw_token_map(page: Image.Image, token_map: TokenMap, tiles: bool = True, kept: bool = True) -> Image.Image:
    """Draw a page as a model reads it.

    Args:
        page: RGB.
        token_map: of this page.
        tiles: set the tiles apart, with their numbers and the global tile. Numbers that do not fit above very narrow
            tiles are left out.
        kept: veil what pruning drops.

    Returns:
        An RGB image of about `LONGEST_SIDE` pixels at most: gaps and heading come on top of it.
    """
    sizes = _Sizes.of(token_map, tiles)
    pieces = _crops(page, token_map, sizes.cell)
    if token_map.page.has_global:
        pieces = [_fitted(page, sizes.cell), *pieces]
    if kept:
        pieces = [veiled(piece, tile.keep) for piece, tile in zip(pieces, token_map.tiles, strict=True)]
    if tiles:
        board = _board(pieces, token_map, sizes, kept)
    else:
        board = _joined(pieces[token_map.page.has_global :], token_map.page.cols)
    return _with_heading(board, token_map, sizes, tiles, kept)


def veiled(tile: Image.Image, keep: np.ndarray) -> Image.Image:
    """A tile on which units that are not kept lie under the veil.

    Args:
        tile: RGB.
        keep: bool `[rows, cols]`, units over the whole tile.
    """
    dropped = Image.fromarray(np.where(keep, 0, round(255 * VEIL_OPACITY)).astype(np.uint8))
    opacity = dropped.resize(tile.size, Image.Resampling.BOX)  # sharp when enlarged, a mean when shrunk
    return Image.composite(Image.new("RGB", tile.size, VEIL), tile, opacity)


def _crops(page: Image.Image, token_map: TokenMap, cell: tuple[int, int]) -> list[Image.Image]:
    """The pixels of each crop, row by row, as sharp as their size allows."""
    left, top, right, bottom = token_map.frame
    rows, cols = token_map.page.rows, token_map.page.cols
    whole = Image.new("RGB", (cols * cell[0], rows * cell[1]), _PADDING)
    x_scale, y_scale = whole.width / (right - left), whole.height / (bottom - top)
    seen = (max(left, 0), max(top, 0), min(right, page.width), min(bottom, page.height))
    size = (max(1, round(x_scale * (seen[2] - seen[0]))), max(1, round(y_scale * (seen[3] - seen[1]))))
    place = (round(x_scale * (seen[0] - left)), round(y_scale * (seen[1] - top)))
    whole.paste(page.resize(size, Image.Resampling.LANCZOS, box=seen), place)
    corners = ((col * cell[0], row * cell[1]) for row in range(rows) for col in range(cols))
    return [whole.crop((x, y, x + cell[0], y + cell[1])) for x, y in corners]


def _fitted(page: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """The whole page in its own shape, as large as a tile allows."""
    scale = min(cell[0] / page.width, cell[1] / page.height)
    size = (max(1, round(scale * page.width)), max(1, round(scale * page.height)))
    return page.resize(size, Image.Resampling.LANCZOS)


def _joined(pieces: Sequence[Image.Image], cols: int) -> Image.Image:
    """Crops without gaps."""
    width, height = pieces[0].size
    whole = Image.new("RGB", (cols * width, len(pieces) // cols * height))
    for number, piece in enumerate(pieces):
        whole.paste(piece, (number % cols * width, number // cols * height))
    return whole


def _board(pieces: Sequence[Image.Image], token_map: TokenMap, sizes: _Sizes, kept: bool) -> Image.Image:
    """Tiles apart from each other, numbers above each; the global one in a column of its own at the left."""
    page, cell = token_map.page, sizes.cell
    room = min(_NARROWEST_TILE, LONGEST_SIDE // (page.cols + page.has_global))  # for the numbers of very thin tiles
    column = max(cell[0], room)
    first = max(pieces[0].width, room) + sizes.column_gap if page.has_global else 0
    step_x, step_y = column + sizes.gap, sizes.caption + cell[1] + sizes.gap
    board = Image.new("RGB", (first + page.cols * step_x - sizes.gap, page.rows * step_y - sizes.gap), _PAPER)
    draw = ImageDraw.Draw(board)
    widths = [first - sizes.column_gap if tile.place is None else column for tile in token_map.tiles]
    whole, crops = token_map.tiles[: page.has_global], token_map.tiles[page.has_global :]
    captions = _captions(whole, widths[0], sizes.font_px, kept) + _captions(crops, widths[-1], sizes.font_px, kept)
    for tile, piece, caption, width in zip(token_map.tiles, pieces, captions, widths, strict=True):
        x, y = (0, 0) if tile.place is None else (first + tile.place[1] * step_x, tile.place[0] * step_y)
        _draw_caption(draw, (x, y), width, caption, sizes.font_px)
        if kept:
            share = tile.share_kept if tile.density is None else tile.density
            _draw_bar(draw, (x, y + sizes.text_height), (width, sizes.bar), share)
        y += sizes.caption
        board.paste(piece, (x, y))
        draw.rectangle((x, y, x + piece.width - 1, y + piece.height - 1), outline=_FAINT)
    return board


def _captions(tiles: Sequence[TileTokens], width: int, font_px: int, kept: bool) -> list[tuple[str, str]]:
    """Texts at the left and right end of each caption: the most telling that fit in `width` above every tile."""
    font = ImageFont.load_default(font_px)
    for brevity in range(4):
        captions = [_caption(tile, brevity, kept) for tile in tiles]
        if all(font.getlength("   ".join(caption)) <= width for caption in captions):
            break
    return captions


def _caption(tile: TileTokens, brevity: int, kept: bool) -> tuple[str, str]:
    place = tile.name
    if brevity > 1:
        place = "page" if tile.place is None else f"{tile.place[0]}, {tile.place[1]}"
    if brevity == 0 and kept and tile.density is not None:
        place += f"   density {tile.density:.2f}"
    if not kept:
        return place, f"{tile.before} tokens" if brevity < 3 else f"{tile.before}"
    return place, (f"{tile.after} of {tile.before}" if brevity < 3 else f"{tile.after}") + " tokens" * (brevity < 2)


def _draw_caption(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, texts: tuple[str, str], font_px: int
) -> None:
    font = _font_that_fits("   ".join(texts), font_px, width)
    if font is not None:
        x, base = corner[0], corner[1] + font_px
        draw.text((x, base), texts[0], _FAINT, font, anchor="ls")
        draw.text((x + width, base), texts[1], _INK, font, anchor="rs")


def _draw_bar(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], share: float) -> None:
    x, y = corner
    draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=_TRACK)
    if length := round(share * size[0]):
        draw.rectangle((x, y, x + length - 1, y + size[1] - 1), fill=_INK)


def _with_heading(board: Image.Image, token_map: TokenMap, sizes: _Sizes, tiles: bool, kept: bool) -> Image.Image:
    """The board under what the page was cut into, the tokens it takes, and the key to the drawing."""
    large, small = round(1.3 * sizes.font_px), sizes.font_px
    margin, line = sizes.font_px, round(1.7 * sizes.font_px)
    width = max(board.width, _NARROWEST_FIGURE * sizes.font_px)
    height = margin + (3 if kept else 2) * line + margin
    figure = Image.new("RGB", (width + 2 * margin, height + board.height + margin), _PAPER)
    draw = ImageDraw.Draw(figure)
    _draw_line(draw, (margin, margin + large), tokens_line(token_map, kept), large, width, _INK)
    _draw_line(draw, (margin, margin + large + line), how_line(token_map), small, width, _FAINT)
    if kept:
        key = (margin, margin + large + 2 * line - small)
        _draw_key(figure, key, token_map, sizes, tiles)
    figure.paste(board, (margin, height))
    return figure


def tokens_line(token_map: TokenMap, kept: bool) -> str:
    """How many tokens the page takes, in words."""
    if not kept:
        return f"{token_map.before:,} tokens"
    before, after = token_map.tile_tokens
    line = f"{after:,} of {before:,} tokens kept ({after / before:.0%})"
    if token_map.compressor == "none":
        return line
    return f"{line}, compressed to {token_map.after:,}"


def how_line(token_map: TokenMap) -> str:
    """How the page is cut and pruned, in words."""
    page = token_map.page
    tiles = f"{page.rows} x {page.cols} tiles" if page.num_crops > 1 else "1 tile"
    parts = [f"{tiles} of {token_map.tile_size} px" + (" and the whole page" if page.has_global else "")]
    parts += [] if token_map.pruner is None else [token_map.pruner]
    parts += [] if token_map.compressor == "none" else [token_map.compressor]
    return "  ·  ".join(parts)


def _draw_key(figure: Image.Image, corner: tuple[int, int], token_map: TokenMap, sizes: _Sizes, tiles: bool) -> None:
    draw, font_px = ImageDraw.Draw(figure), sizes.font_px
    x, y = corner
    font = ImageFont.load_default(font_px)
    swatch = Image.new("RGB", (2 * font_px, font_px), _PAPER)
    for text, keep in (("kept", True), ("dropped", False)):
        figure.paste(veiled(swatch, np.array([[keep]])), (x, y))
        draw.rectangle((x, y, x + swatch.width - 1, y + swatch.height - 1), outline=_FAINT)
        x += swatch.width + font_px // 2
        draw.text((x, y + font_px), text, _INK, font, anchor="ls")
        x += round(font.getlength(text)) + 2 * font_px
    if tiles:
        bar = (2 * font_px, sizes.bar)
        _draw_bar(draw, (x, y + (font_px - bar[1]) // 2), bar, 0.6)
        is_estimated = token_map.tiles[0].density is not None
        text = "density of the tile" if is_estimated else "share of the tile kept"
        draw.text((x + bar[0] + font_px // 2, y + font_px), text, _INK, font, anchor="ls")


def _draw_line(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, font_px: int, width: int, colour: Rgb
) -> None:
    font = _font_that_fits(text, font_px, width) or ImageFont.load_default(_SMALLEST_FONT)
    draw.text(corner, text, colour, font, anchor="ls")


def _font_that_fits(text: str, font_px: int, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont | None:
    """Pillow's own font, so large that the text is no wider than `width`; None where it would be illegible."""
    length = ImageFont.load_default(font_px).getlength(text)
    fitting = font_px if length <= width else int(font_px * width / length)
    return ImageFont.load_default(fitting) if fitting >= _SMALLEST_FONT else None

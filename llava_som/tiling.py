"""How a page is cut into tiles: the one answer of processor, model and counting code.

Shape-adaptive cropping (UReader, arXiv 2310.05126, section 3.1; mPLUG-DocOwl 1.5, arXiv 2403.12895, section 3.1): of a
family of grids the one is taken whose shape is most like the page's, and of those alike the one whose size is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from llava_som.config_file import option, parse_options

GridFamily = str | Sequence[Sequence[int]]

_UP_TO_4 = [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (1, 4), (4, 1)]
_5_TO_9 = [(1, 5), (5, 1), (1, 6), (6, 1), (2, 3), (3, 2), (1, 7), (7, 1), (4, 2), (2, 4), (1, 8), (8, 1)]
_5_TO_9 += [(3, 3), (1, 9), (9, 1)]
_5_TO_20 = [(1, 5), (5, 1), (1, 6), (2, 3), (3, 2), (6, 1), (1, 7), (7, 1), (1, 8), (2, 4), (4, 2), (8, 1)]
_5_TO_20 += [(1, 9), (3, 3), (9, 1), (1, 10), (2, 5), (5, 2), (10, 1), (1, 11), (11, 1), (2, 6), (3, 4), (4, 3), (6, 2)]
_5_TO_20 += [(2, 7), (7, 2), (3, 5), (5, 3), (2, 8), (4, 4), (8, 2), (2, 9), (3, 6), (6, 3), (9, 2)]
_5_TO_20 += [(2, 10), (4, 5), (5, 4), (10, 2)]
LISTED_GRIDS = {
    "grid_1": [(1, 1)],
    "grid_4": _UP_TO_4,
    "grid_9": _UP_TO_4 + _5_TO_9,  # DocOwl 1.5
    "grid_20": _UP_TO_4 + _5_TO_20,  # UReader: beyond 11 tiles, no long strips
}
"""Families written out by their authors, (rows, cols) in an order that decides ties; `grid_N` is any other, by rule."""


@dataclass(frozen=True)
class TileGrid:
    """How one page is cut: `rows * cols` crops and, where there is one, the global tile before them.

    Attributes:
        rows: of crops.
        cols: of crops.
        has_global: the whole page, resized to one tile, comes first.
    """

    rows: int
    cols: int
    has_global: bool = True

    @property
    def num_crops(self) -> int:
        """Tiles without the global one."""
        return self.rows * self.cols

    @property
    def num_tiles(self) -> int:
        """Tiles that the vision encoder sees."""
        return self.num_crops + self.has_global

    def positions(self) -> Iterator[tuple[int, int] | None]:
        """(row, col) of each tile in the order of the tiles, from 0; None for the global one."""
        if self.has_global:
            yield None
        yield from ((row, col) for row in range(self.rows) for col in range(self.cols))


SINGLE_TILE = TileGrid(1, 1, has_global=False)
"""An image that is not tiled."""


@dataclass(frozen=True)
class Tiling:
    """How a model reads pages in tiles; `LlavaSomConfig.tiling` holds these options."""

    grids: str | tuple[tuple[int, int], ...] = option("grid_9", help="family of grids, as plan_tiles takes it")
    global_tile: bool = option(True, help="the whole page is a tile too, the first one")
    max_upscale: float | None = option(None, help="leave out grids that enlarge a page more than so many times")
    tile_markers: bool = option(False, help="<global_img> and <crop_img_row0_col0> before each tile (DocOwl 1.5)")
    page_markers: bool = option(False, help="<img 1>, <img 2> ... before each page of a conversation (DocOwl2)")

    def __post_init__(self) -> None:
        self.plan(1, 1, 1)  # what is wrong is said now, not at the first page

    @classmethod
    def parse(cls, given: str | Mapping[str, Any]) -> Tiling:
        """From the options, or from the name of a family alone; a ValueError for an unknown key or value."""
        if not isinstance(given, str | Mapping):
            raise ValueError(f'tiling={given!r}: is a family of grids ("grid_9"), or options by name (grids=...).')
        options = {"grids": given} if isinstance(given, str) else dict(given)
        _family(options.get("grids", "grid_9"))  # a type check would not say what a family is
        return _parsed(json.dumps(options))

    def plan(self, width: int, height: int, tile_size: int) -> TileGrid:
        """The grid of a page; see `plan_tiles`."""
        return plan_tiles(width, height, self.grids, tile_size, self.max_upscale, self.global_tile)

    def largest(self) -> TileGrid:
        """The grid with the most tiles; for planning memory before any page is seen."""
        rows, cols = max(_family(self.grids).tolist(), key=math.prod)
        return TileGrid(rows, cols, self.global_tile)


def plan_tiles(
    width: int,
    height: int,
    grids: GridFamily = "grid_9",
    tile_size: int = 448,
    max_upscale: float | None = None,
    has_global: bool = True,
) -> TileGrid:
    """The grid whose shape fits the page best: `argmax(100 * shape + resolution)`, the first of equals.

    `shape` is the IoU of grid and a page scaled to its width, `resolution` that of grid and page, both with a corner
    in common. As in DocOwl's code the height of the scaled page is cut to whole pixels, which decides the grid of an
    A4 page at 150 dpi, and all is computed in float32.

    Args:
        width: of the page, pixels.
        height: of the page, pixels.
        grids: a listed family (`LISTED_GRIDS`), `grid_RxC` for one fixed grid, `grid_N` for all (rows, cols) with at
            most N tiles (DocOwl2's `grid_12`), or a sequence of (rows, cols).
        tile_size: side of a tile, pixels.
        max_upscale: leave out grids that enlarge the page more than so many times, in width or in height. The
            smallest grid always remains. None, as published: a small image may become a large grid.
        has_global: whether the whole page becomes a tile too.

    Raises:
        ValueError: a page or tile without pixels, an unknown family, a `max_upscale` that is not positive.
    """
    if min(width, height, tile_size) < 1:
        raise ValueError(f"A page of {width}x{height} in tiles of {tile_size}: all must be at least 1 pixel.")
    if max_upscale is not None and max_upscale <= 0:
        raise ValueError(f"max_upscale={max_upscale}: must be above 0, or None for no limit.")
    grid_RC = _family(grids)
    if max_upscale is not None:
        grid_RC = _within(grid_RC, width, height, tile_size, max_upscale)
    rows, cols = grid_RC[np.argmax(_scores(grid_RC, width, height, tile_size))].tolist()
    return TileGrid(rows, cols, has_global)


@lru_cache
def _parsed(options: str) -> Tiling:
    return parse_options(Tiling, json.loads(options))


def _family(grids: GridFamily) -> np.ndarray:
    """The (rows, cols) of a family, int64 `[G, 2]`, in its order."""
    try:
        return _family_array(grids if isinstance(grids, str) else tuple(tuple(map(int, pair)) for pair in grids))
    except TypeError:
        raise ValueError(f"grids={grids!r}: is no family of (rows, cols), such as [[1, 1], [1, 2]].") from None


@lru_cache
def _family_array(grids: str | tuple[tuple[int, ...], ...]) -> np.ndarray:
    pairs = _named_family(grids) if isinstance(grids, str) else grids
    if not pairs or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(f"grids={grids!r}: needs at least one (rows, cols), each at least 1.")
    family = np.array(pairs, dtype=np.int64)
    family.setflags(write=False)
    return family


def _named_family(name: str) -> Sequence[tuple[int, int]]:
    if name in LISTED_GRIDS:
        return LISTED_GRIDS[name]
    if fixed := re.fullmatch(r"grid_(\d+)x(\d+)", name):
        return [(int(fixed[1]), int(fixed[2]))]
    if rule := re.fullmatch(r"grid_(\d{1,3})", name):
        return [(rows, tiles // rows) for tiles in range(1, int(rule[1]) + 1) for rows in _divisors(tiles)]
    listed = ", ".join(LISTED_GRIDS)
    raise ValueError(f"grids={name!r}: allowed are {listed}, grid_N (such as grid_12), grid_RxC (such as grid_3x3).")


def _divisors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]


def _scores(grid_RC: np.ndarray, width: int, height: int, tile_size: int) -> np.ndarray:
    """What each grid is worth for a page, float32 `[G]`."""
    grid_height, grid_width = (grid_RC * tile_size).T
    scaled_height = (np.float32(height / width) * grid_width.astype(np.float32)).astype(np.int64)
    shape = _iou(grid_width, grid_height, grid_width, scaled_height)
    resolution = _iou(grid_width, grid_height, np.array(width), np.array(height))
    return shape * np.float32(100) + resolution


def _iou(width: np.ndarray, height: np.ndarray, other_width: np.ndarray, other_height: np.ndarray) -> np.ndarray:
    """IoU of boxes that share their top left corner; the union is a hair larger than it is, as in DocOwl's code."""
    shared = np.minimum(width, other_width) * np.minimum(height, other_height)
    union = width * height + other_width * other_height - shared
    return shared.astype(np.float32) / (union.astype(np.float32) + np.float32(1e-5))


def _within(grid_RC: np.ndarray, width: int, height: int, tile_size: int, max_upscale: float) -> np.ndarray:
    enlarged = (grid_RC * tile_size / np.array([height, width])).max(axis=1)
    fitting = grid_RC[enlarged <= max_upscale]
    return fitting if len(fitting) else grid_RC[enlarged.argmin()][None]

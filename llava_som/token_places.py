"""Where each image token of a decoder lies on the image: behind tiles, the projector's windows and pruning.

`token_map` says which units of a tile stay; here is the way back from the tokens that the decoder sees, in its order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import PageCompressor
from llava_som.configuration import LlavaSomConfig
from llava_som.page_encoder import PageTokens
from llava_som.page_readers import seen_area
from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import GroupedProjector, window_index
from llava_som.pruning import build_pruner
from llava_som.pruning.base import TilePruner, placement_of
from llava_som.tiling import SINGLE_TILE, TileGrid
from llava_som.token_map import Box

_WITHOUT_PLACE = {"resampler": "each of its tokens looks at the whole image"}


@dataclass(frozen=True)
class View:
    """An area of the image in cells, as one tile shows it.

    Attributes:
        box: (left, top, right, bottom) in pixels of the image; beyond it is padding.
        tokens: number of the image token that stands for each cell, int `[rows, cols]`; -1 where none is left.
    """

    box: Box
    tokens: np.ndarray

    @property
    def cell_area(self) -> float:
        """Of a cell, in pixels of the image."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top) / self.tokens.size

    def cell(self, row: int, col: int) -> Box:
        """The box of a cell."""
        left, top, right, bottom = self.box
        rows, cols = self.tokens.shape
        height, width = (bottom - top) / rows, (right - left) / cols
        return (left + col * width, top + row * height, left + (col + 1) * width, top + (row + 1) * height)


@dataclass(frozen=True)
class TokenPlaces:
    """The image tokens of one image in the decoder's prompt.

    Attributes:
        frame: what the tiles together show, in pixels of the image; beyond the image is padding.
        views: the tiles; those of a page overlap where a tile shows the whole page.
        count: N, image tokens, those without a place (class tokens, ends of tiles) included.
    """

    frame: Box
    views: tuple[View, ...]
    count: int

    @cached_property
    def has_place(self) -> np.ndarray:
        """Which tokens stand for some cell, bool `[N]`."""
        found = np.zeros(self.count, bool)
        for view in self.views:
            found[view.tokens[view.tokens >= 0]] = True
        return found

    @cached_property
    def cell_area(self) -> float:
        """The smallest cell, in pixels of the image."""
        return min(view.cell_area for view in self.views)

    @cached_property
    def cells_of_tokens(self) -> np.ndarray:
        """How many cells each token stands for, in smallest cells, `[N]`."""
        area = np.zeros(self.count)
        for view in self.views:
            shown = view.tokens[view.tokens >= 0]
            np.add.at(area, shown, view.cell_area / self.cell_area)
        return area

    def cells(self, token: int) -> list[Box]:
        """The boxes of a token's cells."""
        return [view.cell(row, col) for view in self.views for row, col in np.argwhere(view.tokens == token).tolist()]

    def density(self, values_N: np.ndarray) -> np.ndarray:
        """Values over the area of their tokens: of a token of one smallest cell, the value itself. `[N]`."""
        return np.divide(values_N, self.cells_of_tokens, out=np.zeros(self.count), where=self.has_place)

    def raster(self, values_N: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Values laid over the frame.

        Args:
            values_N: of each token, `[N]`; each is spread over its cells.
            size: width and height of the raster.

        Returns:
            The value of a smallest cell at each pixel, `[height, width]`, views of one place added up; and whether
            any token is left there, bool.
        """
        density = self.density(values_N)
        heat, is_covered = np.zeros(size[::-1]), np.zeros(size[::-1], bool)
        for view in self.views:
            rows, row_inside = _cells_along(self.frame[1::2], view.box[1::2], view.tokens.shape[0], size[1])
            cols, col_inside = _cells_along(self.frame[::2], view.box[::2], view.tokens.shape[1], size[0])
            tokens = np.where(row_inside[:, None] & col_inside, view.tokens[rows][:, cols], -1)
            heat += np.where(tokens >= 0, density[tokens], 0.0)
            is_covered |= tokens >= 0
        return heat, is_covered


def _cells_along(
    frame: Sequence[float], box: Sequence[float], cells: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Along an axis of the raster: the cell of each pixel's centre, and whether it lies in the box."""
    at = frame[0] + (np.arange(length) + 0.5) / length * (frame[1] - frame[0])
    cell = np.floor((at - box[0]) / (box[1] - box[0]) * cells).astype(int)
    return cell.clip(0, cells - 1), (cell >= 0) & (cell < cells)


def places_of(config: LlavaSomConfig, image_processor: Any, image: Image.Image, tokens: PageTokens) -> TokenPlaces:
    """The places of an image's tokens.

    Args:
        config: of the model.
        image_processor: of its processor.
        image: that was encoded.
        tokens: what `encode_pages` made of it.

    Raises:
        ValueError: a model whose tokens have no place on the image, or none that is known.
    """
    if not isinstance(config, LlavaSomConfig):
        raise ValueError(
            f"{getattr(config, 'model_type', config)!r}: where its image tokens lie is not known. Load it with "
            "load_checkpoint, which reads ours, llava-hf's, LLaVA-1.5's and DocOwl's formats."
        )
    if (why := _WITHOUT_PLACE.get(config.projector["type"])) is not None:
        raise ValueError(
            f"projector={config.projector['type']}: {why}, so attention to it is no attention to a place. Projectors "
            f"that can be drawn: {', '.join(name for name in PROJECTORS.names() if name not in _WITHOUT_PLACE)}."
        )
    if config.tiling is None:
        grid, frame = SINGLE_TILE, seen_area(image_processor, *image.size)
    else:
        grid, frame = image_processor.plan(*image.size), (0, 0, *image.size)
    layout = _Layout(config, grid, tokens)
    seen = zip(_boxes(grid, frame), layout.of_tiles, strict=False)  # compressors leave the first tile's tokens alone
    views = tuple(View(box, cells) for box, cells in seen)
    return TokenPlaces(frame, views, len(tokens.features))


def _boxes(grid: TileGrid, frame: Box) -> Iterator[Box]:
    """The area of each tile; the global one shows the whole frame."""
    whole = View(frame, np.zeros((grid.rows, grid.cols), int))
    for place in grid.positions():
        yield frame if place is None else whole.cell(*place)


class _Layout:
    """The tokens of the tiles of one image, as the decoder numbers them."""

    def __init__(self, config: LlavaSomConfig, page: TileGrid, tokens: PageTokens) -> None:
        self.config, self.page = config, page
        self.count = config.token_count
        total = sum(self.count.span_lengths(page))
        keep = np.ones(total, bool) if tokens.keep is None else tokens.keep.cpu().numpy()
        self.numbers = np.where(keep, keep.cumsum() - 1, -1)
        self.choice = tokens.choice

    @cached_property
    def of_tiles(self) -> list[np.ndarray]:
        """Token of each cell, `[rows, cols]`, of each tile that the decoder sees."""
        grid = (self.count.rows, self.count.cols)
        compressor = COMPRESSORS.get(self.config.compressor["type"])
        if issubclass(compressor, PageCompressor):  # in the place of the global tile's tokens
            return [self.numbers[: grid[0] * grid[1]].reshape(grid)]
        if self.config.compressor["type"] != "none":
            raise ValueError(f"compressor={self.config.compressor['type']}: where its tokens lie is not known.")
        before = self.config.num_prefix_tokens if self.config.keep_prefix_tokens else 0
        spans = np.split(self.numbers, np.cumsum(self.count.span_lengths(self.page))[:-1])
        if self._is_regrouped():
            return [self._regrouped(number, span) for number, span in enumerate(spans)]
        return [span[before : before + grid[0] * grid[1]].reshape(grid) for span in spans]

    def _is_regrouped(self) -> bool:
        pruner, projector = build_pruner(self.config.pruning), PROJECTORS.get(self.config.projector["type"])
        if self.choice is None or not isinstance(pruner, TilePruner):
            return False
        return placement_of(pruner, projector) == "pre_v2t"

    def _regrouped(self, tile: int, span: np.ndarray) -> np.ndarray:
        """Of patches that were put together anew, `page_encoder.regrouped`: kept ones in the order of their windows."""
        assert self.choice is not None
        grid = self.config.token_grid
        projector, options = PROJECTORS.resolve(self.config.projector)
        assert issubclass(projector, GroupedProjector)
        height, width = projector.window(**options)
        order = window_index(grid.rows, grid.cols, height, width).flatten().numpy()
        kept = order[self.choice.keep[tile].cpu().numpy()[order]]
        tokens = np.full(grid.num_patches, -1)
        tokens[kept] = span[np.arange(len(kept)) // (height * width)]
        return tokens.reshape(grid.rows, grid.cols)

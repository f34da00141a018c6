"""Where the tokens of a page lie and which of them stay: the numbers behind a picture of tiling and pruning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from llava_som.page_encoder import unit_grid_of
from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import GroupedProjector, Projector
from llava_som.pruning.base import Choice, Placement, TilePruner, placement_of
from llava_som.tiling import TileGrid

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TileTokens:
    """The tokens of one tile.

    Attributes:
        place: (row, col) of a crop, from 0; None for the tile that shows the whole page.
        keep: which of its units stay, bool `[rows, cols]`: patches, or the projector's tokens, over the tile.
        before: tokens behind the projector, special ones included.
        after: those that pruning leaves.
        density: share of the tile that carries information, where the pruner estimates it.
    """

    place: tuple[int, int] | None
    keep: np.ndarray
    before: int
    after: int
    density: float | None = None

    @property
    def name(self) -> str:
        """What a person calls the tile."""
        return "whole page" if self.place is None else f"row {self.place[0]}, col {self.place[1]}"

    @property
    def share_kept(self) -> float:
        """Of its units."""
        return float(self.keep.mean())


@dataclass(frozen=True)
class TokenMap:
    """The tokens of one page.

    Attributes:
        page: how the page is cut.
        tile_size: side of a tile, pixels.
        frame: what the crops divide, (left, top, right, bottom) in pixels of the page; beyond the page is padding.
        tiles: in their order, the global one first.
        before: tokens that the decoder would see without pruning.
        after: those that it sees.
        pruner: the pruner's name and options; None without one.
        compressor: name of what makes the page's tokens from those of its tiles.
    """

    page: TileGrid
    tile_size: int
    frame: Box
    tiles: tuple[TileTokens, ...]
    before: int
    after: int
    pruner: str | None = None
    compressor: str = "none"

    @property
    def tile_tokens(self) -> tuple[int, int]:
        """Tokens of all tiles together, before and after pruning; what the compressor is given."""
        return sum(tile.before for tile in self.tiles), sum(tile.after for tile in self.tiles)


@dataclass(frozen=True)
class TileLayout:
    """How the tokens of a tile lie.

    Attributes:
        grid: rows and columns of patches.
        projector: `{"type": name, **options}`.
        num_special: tokens after those of the projector's grid.
    """

    grid: tuple[int, int]
    projector: dict[str, Any]
    num_special: int

    @cached_property
    def _projector(self) -> tuple[type[Projector], dict[str, Any]]:
        return PROJECTORS.resolve(self.projector)

    @cached_property
    def out_grid(self) -> tuple[int, int]:
        """Rows and columns of the projector's tokens."""
        projector, options = self._projector
        return projector.output_grid(*self.grid, **options)

    def placement(self, pruner: TilePruner) -> Placement:
        """Where the pruner works."""
        return placement_of(pruner, self._projector[0])

    def tiles(self, page: TileGrid, pruner: TilePruner | None, choice: Choice | None) -> tuple[TileTokens, ...]:
        """The tokens of each tile of a page, after `choice` where there is one."""
        placement = None if pruner is None else self.placement(pruner)
        rows, cols = unit_grid_of(placement or "post_v2t", self.grid, self.out_grid)
        keep = np.ones((page.num_tiles, rows * cols), bool) if choice is None else choice.keep.cpu().numpy()
        density = None if choice is None or choice.density is None else choice.density.tolist()
        before = self.out_grid[0] * self.out_grid[1] + self.num_special
        return tuple(
            TileTokens(
                place=place,
                keep=keep[number].reshape(rows, cols),
                before=before,
                after=self._tokens_of(int(keep[number].sum()), placement) + self.num_special,
                density=None if density is None else density[number],
            )
            for number, place in enumerate(page.positions())
        )

    def _tokens_of(self, units: int, placement: Placement | None) -> int:
        """Tokens made of so many kept units: patches are regrouped, `page_encoder.regrouped`."""
        projector, options = self._projector
        if placement != "pre_v2t" or not issubclass(projector, GroupedProjector):
            return units
        height, width = projector.window(**options)
        return -(-units // (height * width))

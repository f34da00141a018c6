"""What every compressor is: a module over the projected tiles of pages, which also counts its tokens beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_som.tiling import TileGrid


@dataclass(frozen=True)
class ProjectedTiles:
    """The tiles of some pages behind the projector, all pages in one batch.

    Attributes:
        tokens: `[N, T + special, D]`; the T tokens of the grid row by row, then the projector's special ones. A page's
            tiles stand together, its global tile first.
        pages: the grid of each page; their tiles add up to N.
        grid: rows and columns of the tokens of a tile, `rows * cols = T`.
        keep: bool, as `tokens` without D: what pruning leaves; None when that is everything.
    """

    tokens: Tensor
    pages: Sequence[TileGrid]
    grid: tuple[int, int]
    keep: Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """T, without special tokens."""
        return self.grid[0] * self.grid[1]


class Compressor(nn.Module):
    """Maps projected tiles to the tokens that the decoder sees.

    A subclass takes `(width, **options)`; the options are those of `LlavaSomConfig.compressor`.

    Attributes:
        needs_global: whether every page must have a global tile.
    """

    needs_global = True

    @classmethod
    def span_lengths(cls, page: TileGrid, grid: tuple[int, int], num_special: int, **options: Any) -> list[int]:
        """Decoder tokens of a page in the order in which they stand, a number for each stretch without text between.

        Args:
            page: how the page is cut.
            grid: rows and columns of the projector's tokens for one tile.
            num_special: the projector's special tokens after those of each tile.
            **options: of this compressor.
        """
        raise NotImplementedError

    def forward(self, tiles: ProjectedTiles) -> tuple[Tensor, Tensor | None]:
        """Tokens `[S, D]` of all pages, one after the other, and which of them pruning leaves, bool `[S]` or None.

        S is the sum of all `span_lengths`.
        """
        raise NotImplementedError


class PageCompressor(Compressor):
    """A compressor that makes each token of the global tile into a token of the page, informed by the crops."""

    def __init__(self, width: int, eos: bool = False) -> None:
        super().__init__()
        self.eos = nn.Parameter(torch.zeros(width)) if eos else None

    @classmethod
    def span_lengths(
        cls, page: TileGrid, grid: tuple[int, int], num_special: int, eos: bool = False, **options: Any
    ) -> list[int]:
        """One stretch: as many tokens as a tile has, and one more with `eos`, whatever the grid of the page."""
        return [grid[0] * grid[1] + eos]

    def compress(self, global_PTD: Tensor, tiles: ProjectedTiles) -> Tensor:
        """Page tokens `[P, T, D]` from the tokens of the global tiles, in the same shape, and all tiles."""
        raise NotImplementedError

    def forward(self, tiles: ProjectedTiles) -> tuple[Tensor, Tensor | None]:
        """Tokens `[P * (T + eos), D]` and which of them pruning leaves; see `Compressor.forward`."""
        first = first_tiles(tiles.pages).to(tiles.tokens.device)
        tokens = self.compress(tiles.tokens[first, : tiles.num_tokens], tiles)
        keep = None if tiles.keep is None else tiles.keep[first, : tiles.num_tokens]
        if self.eos is not None:
            tokens = torch.cat([tokens, self.eos.expand(len(tokens), 1, -1)], dim=1)
            keep = None if keep is None else F.pad(keep, (0, 1), value=True)
        return tokens.flatten(0, 1), None if keep is None else keep.flatten()


def first_tiles(pages: Sequence[TileGrid]) -> Tensor:
    """Number of the first tile of each page among all tiles, `[P]`."""
    counts = torch.tensor([page.num_tiles for page in pages])
    return counts.cumsum(0) - counts

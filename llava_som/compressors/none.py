"""No compression: every token of every tile goes to the decoder, tile by tile (DocOwl 1.5)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import Compressor, ProjectedTiles
from llava_som.tiling import TileGrid


@COMPRESSORS.register("none")
class NoCompression(Compressor):
    """Tiles as they are."""

    needs_global = False

    def __init__(self, width: int) -> None:
        super().__init__()

    @classmethod
    def span_lengths(cls, page: TileGrid, grid: tuple[int, int], num_special: int, **options: Any) -> list[int]:
        """A stretch for each tile, so that text can stand between them."""
        return [grid[0] * grid[1] + num_special] * page.num_tiles

    def forward(self, tiles: ProjectedTiles) -> tuple[Tensor, Tensor | None]:
        """Tokens `[N * (T + special), D]`, and which of them pruning leaves."""
        return tiles.tokens.flatten(0, 1), None if tiles.keep is None else tiles.keep.flatten()

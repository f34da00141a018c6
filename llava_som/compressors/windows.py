"""Which high-resolution tokens cover the area of a global token (DocOwl2, arXiv 2409.03420, section 3.3).

The crops of a page, R rows of C, of X x Y tokens each, are one map of R X x C Y tokens. Global token (i, j) sees the
same part of the page as the window of R x C tokens that begins at row i R and column j C of that map.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from llava_som.compressors.base import ProjectedTiles
from llava_som.tiling import TileGrid


def window_tokens(tiles: ProjectedTiles) -> tuple[Tensor, Tensor | None]:
    """The window of each global token, for all pages at once.

    Returns:
        Numbers of tokens, `[P, T, K]`, into `tiles.tokens[:, :T]` with its first two dimensions made one; and whether
        they are meant, bool, same shape, or None when all are: pages of fewer than K crops are filled up, and pruned
        tokens are left out. Where pruning left none of a window, all of it is meant: a query always has a key.
    """
    device = tiles.tokens.device
    index, filled = (tensor.to(device) for tensor in _index(tuple(tiles.pages), tiles.grid))
    if tiles.keep is None:
        return index, None if len({page.num_crops for page in tiles.pages}) == 1 else filled
    kept = tiles.keep[:, : tiles.num_tokens].flatten()[index] & filled
    return index, torch.where(kept.any(dim=-1, keepdim=True), kept, filled)


@lru_cache(maxsize=64)
def _index(pages: Sequence[TileGrid], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    largest = max(page.num_crops for page in pages)
    index = torch.zeros(len(pages), grid[0] * grid[1], largest, dtype=torch.long)
    valid = torch.zeros_like(index, dtype=torch.bool)
    before = 0
    for number, page in enumerate(pages):
        window = _windows_of_page(page.rows, page.cols, *grid)
        index[number, :, : page.num_crops] = window + (before + page.has_global) * grid[0] * grid[1]
        valid[number, :, : page.num_crops] = True
        before += page.num_tiles
    return index, valid


@lru_cache
def _windows_of_page(rows: int, cols: int, tile_rows: int, tile_cols: int) -> Tensor:
    """Numbers of tokens among those of the crops, crop by crop: `[tile_rows * tile_cols, rows * cols]`."""
    crops = torch.arange(rows * cols * tile_rows * tile_cols).view(rows, cols, tile_rows, tile_cols)
    page = crops.permute(0, 2, 1, 3).reshape(tile_rows, rows, tile_cols, cols)  # the whole map, cut into windows
    return page.permute(0, 2, 1, 3).reshape(tile_rows * tile_cols, rows * cols)

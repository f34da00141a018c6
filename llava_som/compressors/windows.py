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


def crop_tokens(tiles: ProjectedTiles) -> Tensor:
    """The tokens of all crops, without those of global tiles: `[S, D]`."""
    return tiles.tokens[_crops(tiles), : tiles.num_tokens].flatten(0, 1)


def window_tokens(tiles: ProjectedTiles) -> tuple[Tensor, Tensor | None]:
    """The window of each global token, for all pages at once.

    Returns:
        Numbers of tokens among `crop_tokens`, `[P, T, K]`; and whether they are meant, bool, same shape, or None when
        all are: pages of fewer than K crops are filled up, and pruned tokens are left out. Where pruning left none of a
        window, all of it is meant: a query always has a key.
    """
    index, filled = (tensor.to(tiles.tokens.device) for tensor in _index(tuple(tiles.pages), tiles.grid))
    if tiles.keep is None:
        return index, None if len({page.num_crops for page in tiles.pages}) == 1 else filled
    kept = tiles.keep[_crops(tiles), : tiles.num_tokens].flatten()[index] & filled
    return index, torch.where(kept.any(dim=-1, keepdim=True), kept, filled)


def _crops(tiles: ProjectedTiles) -> Tensor:
    """Numbers of the tiles that are crops."""
    positions = [position for page in tiles.pages for position in page.positions()]
    numbers = [number for number, position in enumerate(positions) if position is not None]
    return torch.tensor(numbers, device=tiles.tokens.device)


@lru_cache(maxsize=64)
def _index(pages: Sequence[TileGrid], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    largest = max(page.num_crops for page in pages)
    index = torch.zeros(len(pages), grid[0] * grid[1], largest, dtype=torch.long)
    valid = torch.zeros_like(index, dtype=torch.bool)
    before = 0
    for number, page in enumerate(pages):
        index[number, :, : page.num_crops] = _windows_of_page(page.rows, page.cols, *grid) + before
        valid[number, :, : page.num_crops] = True
        before += page.num_crops * grid[0] * grid[1]
    return index, valid


@lru_cache
def _windows_of_page(rows: int, cols: int, tile_rows: int, tile_cols: int) -> Tensor:
    """Numbers of tokens among those of the crops, crop by crop: `[tile_rows * tile_cols, rows * cols]`."""
    crops = torch.arange(rows * cols * tile_rows * tile_cols).view(rows, cols, tile_rows, tile_cols)
    page = crops.permute(0, 2, 1, 3).reshape(tile_rows, rows, tile_cols, cols)  # the whole map, cut into windows
    return page.permute(0, 2, 1, 3).reshape(tile_rows * tile_cols, rows * cols)

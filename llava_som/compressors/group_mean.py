"""Group mean: each window averaged, without parameters (an ablation of DocOwl2, arXiv 2409.03420, Table 5)."""

from __future__ import annotations

from torch import Tensor

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import PageCompressor, ProjectedTiles
from llava_som.compressors.windows import crop_tokens, window_tokens


@COMPRESSORS.register("group_mean")
class GroupMean(PageCompressor):
    """A page token is the mean of the high-resolution tokens of its area and of the global token itself.

    How the paper's ablation joins the two is not published; with the global token in the mean, every tile is used.
    """

    def compress(self, global_PTD: Tensor, tiles: ProjectedTiles) -> Tensor:
        """Page tokens `[P, T, D]`."""
        index_PTK, valid_PTK = window_tokens(tiles)
        window_PTKD = crop_tokens(tiles)[index_PTK]
        if valid_PTK is None:
            return (global_PTD + window_PTKD.sum(dim=2)) / (1 + index_PTK.shape[2])
        weight_PTK1 = valid_PTK.unsqueeze(-1).to(window_PTKD)
        return (global_PTD + (weight_PTK1 * window_PTKD).sum(dim=2)) / (1 + weight_PTK1.sum(dim=2))

"""Complete attention: each global token attends to every high-resolution token of its page.

An ablation of DocOwl2 (arXiv 2409.03420, Table 5): the same layers as DocCompressor's, without its windows. Where no
fused kernel is at hand, memory grows with the square of a tile's tokens.
"""

from __future__ import annotations

from torch import Tensor

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import ProjectedTiles
from llava_som.compressors.doc_compressor import DocCompressor
from llava_som.compressors.windows import window_tokens


@COMPRESSORS.register("complete_attention")
class CompleteAttention(DocCompressor):
    """DocCompressor, with the tokens of all crops of the page as the keys of every query; same options."""

    def keys(self, tiles: ProjectedTiles) -> tuple[Tensor, Tensor | None]:
        """The tokens of all crops of each page, `[P, K]`, and which of them are meant."""
        index_PTK, valid_PTK = window_tokens(tiles)  # the windows of a page are its crops, in another order
        return index_PTK.flatten(1), None if valid_PTK is None else valid_PTK.flatten(1)

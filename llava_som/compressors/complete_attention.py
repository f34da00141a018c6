"""Complete attention: each global token attends to every high-resolution token of its page.

An ablation of DocOwl2 (arXiv 2409.03420, Table 5): the same layers as DocCompressor's, without its windows. Where no
fused kernel is at hand, memory grows with the square of a tile's tokens.
"""

from __future__ import annotations

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import ProjectedTiles
from llava_som.compressors.doc_compressor import DocCompressor, Keys


@COMPRESSORS.register("complete_attention")
class CompleteAttention(DocCompressor):
    """DocCompressor, with the tokens of all crops of the page as the keys of every query; same options."""

    def keys(self, tiles: ProjectedTiles) -> Keys:
        """The tokens of all crops of a page, for all its queries."""
        windows = super().keys(tiles)  # the windows of a page are its crops, in another order
        index, valid = (
            part if part is None else part.transpose(1, 2).flatten(1).unsqueeze(1)
            for part in (windows.index_PGK, windows.valid_PGK)
        )
        assert index is not None
        return Keys(index, valid, [count * tiles.num_tokens for count in windows.counts])

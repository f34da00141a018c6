"""PyramidDrop (arXiv 2410.17247, section 3): the decoder in stages, each passing on a share of its image tokens.

Tokens are ranked by the attention of the last instruction token. Here it is that of the stage's last layer, which has
just been computed; the released code computes query and keys of the next layer for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.in_decoder import DecoderPruner


@PRUNERS.register("pyramiddrop")
@dataclass(frozen=True, kw_only=True)
class PyramidDropPruner(DecoderPruner):
    """A drop at the end of each stage but the last; `keep_ratio` is the paper's lambda."""

    stage_ends: tuple[float, ...] = option(
        (0.25, 0.5, 0.75), help="shares of the decoder's depth, rounded to whole layers, after which tokens are dropped"
    )

    def drops_after(self, depth: int) -> tuple[int, ...]:
        """Layers 8, 16 and 24 of 32, as published."""
        return tuple(round(share * depth) for share in self.stage_ends)

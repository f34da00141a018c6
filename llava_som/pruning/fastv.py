"""FastV (arXiv 2403.06764, section 4): after layer K the image tokens that the last prompt token attends to least go.

As in the released code the attention of the last layer that still has all tokens decides, mean over heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.in_decoder import DecoderPruner


@PRUNERS.register("fastv")
@dataclass(frozen=True, kw_only=True)
class FastVPruner(DecoderPruner):
    """One drop, early in the decoder; `keep_ratio` is the paper's 1 - R."""

    layer: int = option(2, help="how many of the decoder's layers see all image tokens (K)")

    def drops_after(self, depth: int) -> tuple[int, ...]:
        """K."""
        return (self.layer,)

"""VisionZip (arXiv 2412.04467, section 3): dominant tokens by the class token's attention, the others merged.

The rest of a tile is merged into evenly spaced contextual tokens, each the mean of itself and of the tokens whose keys,
averaged over the heads, are most like its own. The published method also keeps the class token; here no prefix token
reaches the projector.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.base import Choice, TilePruner, TileView, keep_top, share_of
from llava_som.pruning.merging import averaged_into_nearest


@PRUNERS.register("visionzip")
@dataclass(frozen=True, kw_only=True)
class VisionZipPruner(TilePruner):
    """So many dominant and so many contextual tokens; the defaults are the published 162 and 30 of 576."""

    layer: int = option(-2, help="number of the vision block whose attention and keys decide")
    dominant: float = option(162 / 576, help="tokens that stay as they are; below 1 a share of a tile's, else a count")
    contextual: float = option(30 / 576, help="tokens that the others are merged into; share or count as well")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dominant < 0 or self.contextual < 0:
            raise ValueError(
                f"dominant={self.dominant}, contextual={self.contextual}: a share below 1 or a number of tokens, "
                "never negative."
            )

    def layers(self) -> tuple[int, ...]:
        """The one block."""
        return (self.layer,)

    def choose(self, view: TileView) -> Choice:
        """Dominant and contextual tokens, the same numbers in each tile."""
        block = view.attention[self.layer]
        scores = view.units.mean(block.attention_of_page())
        dominant, contextual = self._counts(view.units.count)
        is_dominant = keep_top(scores, dominant)
        if not contextual:
            return Choice(is_dominant, view.features, scores)
        is_contextual = _evenly_spaced(~is_dominant, view.units.count - dominant, contextual)
        merged = averaged_into_nearest(
            view.features, view.units.mean(block.head_mean_keys().float()), (~is_dominant).float(), is_contextual
        )
        return Choice(is_dominant | is_contextual, merged, scores)

    def _counts(self, count: int) -> tuple[int, int]:
        """Dominant and contextual tokens of `count`; what is missing to `min_tokens` becomes dominant."""
        contextual = _number(self.contextual, count)
        dominant = min(count, max(_number(self.dominant, count), self.min_tokens - contextual))
        return dominant, min(contextual, count - dominant)


def _number(share: float, count: int) -> int:
    """A share of `count` when below 1, rounded up; else a number of its own."""
    return share_of(share, count) if share < 1 else int(share)


def _evenly_spaced(is_rest_NU: Tensor, rest: int, wanted: int) -> Tensor:
    """`wanted` of the `rest` tokens of each tile, at equal distances from the first on, bool `[N, U]`."""
    step = rest // wanted
    rank = is_rest_NU.cumsum(dim=1) - 1
    return is_rest_NU & (rank % step == 0) & (rank < step * wanted)

"""PruMerge and PruMerge+ (LLaVA-PruMerge, arXiv 2403.15388, section 3): outliers of the class token's attention stay.

Follows the released code: queries and keys of the last block as one head of full width, the share of outliers by the
upper IQR fence, each kept token plus the attention-weighted sum of its nearest by key, and one more token for all that
was pruned. Here the whole batch is computed at once, and the extra token stands in the place of the strongest pruned
patch instead of behind all others, so that every token has a place on the page. A tile that keeps everything is left as
it is. The weights of the sums are as published: not normalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.attention import outliers
from llava_som.pruning.base import Choice, TilePruner, TileView, check_share, keep_at_least, keep_top, share_of
from llava_som.pruning.merging import nearest_added


@PRUNERS.register("prumerge")
@dataclass(frozen=True, kw_only=True)
class PruMergePruner(TilePruner):
    """As many of the most attended tokens as there are outliers, and one token for the rest."""

    layer: int = option(-1, help="number of the vision block whose attention and keys decide")
    iqr_factor: float = option(1.5, help="outliers lie so many interquartile ranges above the third quartile")
    keep_ratio: float | None = option(
        None, help="share of the tokens of a tile that stay for their attention, instead of the share of outliers"
    )
    neighbours: int = option(32, help="how many of the nearest tokens are added to each kept one; 0: none")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iqr_factor < 0 or self.neighbours < 0:
            raise ValueError(
                f"iqr_factor={self.iqr_factor}, neighbours={self.neighbours}: neither may be negative. Published are "
                "1.5 and 32."
            )
        if self.keep_ratio is not None:
            check_share("keep_ratio", self.keep_ratio)

    def layers(self) -> tuple[int, ...]:
        """The one block."""
        return (self.layer,)

    def choose(self, view: TileView) -> Choice:
        """The most attended tokens, with what is near them and what is dropped merged in."""
        block = view.attention[self.layer]
        attention_NT = block.attention_of_page(single_head=True)
        scores, weights = view.units.largest(attention_NT), view.units.mean(attention_NT)
        keep, features = keep_at_least(self._kept(scores), scores, self.min_tokens), view.features
        is_whole = keep.all(dim=1).view(-1, 1, 1)
        if self.neighbours:
            features = nearest_added(features, view.units.mean(block.patch_keys().float()), weights, self.neighbours)
        is_rest = F.one_hot(scores.masked_fill(keep, -torch.inf).argmax(dim=1), view.units.count).bool()
        rest = torch.einsum("nu,nuw->nw", weights.masked_fill(keep, 0.0).to(features.dtype), view.features)
        features = torch.where(is_rest.unsqueeze(2), rest.unsqueeze(1), features)
        return Choice(keep | is_rest, torch.where(is_whole, view.features, features), scores)

    def _kept(self, scores_NU: Tensor) -> Tensor:
        """Tokens that stay for themselves, apart from what the minimum adds, bool `[N, U]`."""
        return keep_top(scores_NU, self._strongest(scores_NU))

    def _strongest(self, scores_NU: Tensor) -> Tensor:
        """How many tokens of each tile stay for their attention, at least one, `[N]`."""
        if self.keep_ratio is None:
            return outliers(scores_NU, self.iqr_factor).sum(dim=1).clamp(min=1)
        return torch.full_like(scores_NU[:, 0], share_of(self.keep_ratio, scores_NU.shape[1])).long()


@PRUNERS.register("prumerge_plus")
@dataclass(frozen=True, kw_only=True)
class PruMergePlusPruner(PruMergePruner):
    """PruMerge, and tokens at equal distances beside the most attended ones."""

    spread: int = option(3, help="how many evenly spaced tokens there are for each most attended one")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spread < 1:
            raise ValueError(f"spread={self.spread}: must be at least 1; without spread tokens it is prumerge.")

    def _kept(self, scores_NU: Tensor) -> Tensor:
        """The most attended tokens, and every so-manyth of the tile, bool `[N, U]`."""
        strongest, count = self._strongest(scores_NU), scores_NU.shape[1]
        stride = (count // strongest // self.spread).clamp(min=1)
        places = torch.arange(count, device=scores_NU.device)
        return keep_top(scores_NU, strongest) | (places % stride.unsqueeze(1) == 0)

"""HiRED (arXiv 2408.10945, section 4): a token budget for the whole page, more of it for tiles with more to see.

An early block's class token looks at what is there, a late one's at what matters: the first, on the global tile, says
how much of the budget the area of each crop gets, the second which tokens of a tile stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.base import BudgetPruner, Choice, TileView, keep_top, share_of
from llava_som.pruning.budget import apportion
from llava_som.tiling import TileGrid


@PRUNERS.register("hired")
@dataclass(frozen=True, kw_only=True)
class HiredPruner(BudgetPruner):
    """`keep_ratio` of the tokens of a page, `alpha` of them for its global tile, the rest shared by its crops.

    The paper gives each crop its part of the attention; the released code counts in it the highest `1 - alpha` of
    the global tile's patches, which is not done here. Budget that a full tile cannot take goes to the others, where the
    released code lets it lapse. Crops of a page without a global tile get equal parts.
    """

    apply_to: Literal["crops", "all"] = option(
        "all", help="whether the budget is for all tiles, or for the crops, and the global tile is spared"
    )
    alpha: float = option(0.5, help="share of the budget that the global tile gets, as far as it has tokens")
    layer_early: int = option(0, help="number of the vision block whose attention shares out the budget")
    layer_deep: int = option(-2, help="number of the vision block whose attention chooses tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha}: must be from 0 to 1, the global tile's share of the budget.")

    def layers(self) -> tuple[int, ...]:
        """The early and the deep block."""
        return (self.layer_early, self.layer_deep)

    def choose(self, view: TileView) -> Choice:
        """The most attended tokens of each tile, as many as its part of the page's budget."""
        content_NT = view.attention[self.layer_early].attention_of_page()
        scores = view.units.mean(view.attention[self.layer_deep].attention_of_page())
        counts, first = [], 0
        for page in view.pages:
            content = content_NT[first].unflatten(0, view.grid)
            counts.append(self._counts(page, content, view.units.count))
            first += page.num_tiles
        return Choice(keep_top(scores, torch.cat(counts)), view.features, scores)

    def _counts(self, page: TileGrid, content: Tensor, count: int) -> Tensor:
        """Tokens for each tile of a page, `[num_tiles]`.

        Args:
            page: how it is cut.
            content: attention of the early block on its first tile, `[rows, cols]`.
            count: tokens of a tile.
        """
        pruned = page.num_tiles if self.apply_to == "all" else page.num_crops
        total = share_of(self.keep_ratio, count * pruned)
        for_global = count
        if self.apply_to == "all" and page.has_global:
            left_over = total - page.num_crops * count  # crops cannot take more
            for_global = min(count, max(round(self.alpha * total), left_over, self.min_tokens))
            total -= for_global
        weights = content.new_ones(page.num_crops)
        if page.has_global:
            weights = F.adaptive_avg_pool2d(content.unsqueeze(0), (page.rows, page.cols)).flatten()
        for_crops = apportion(weights, torch.full_like(weights, count).long(), total, self.min_tokens)
        return F.pad(for_crops, (int(page.has_global), 0), value=for_global)

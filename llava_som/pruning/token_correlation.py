"""Token-level correlation-guided compression (arXiv 2407.14439): how dense a tile is decides how much of it stays.

As its figure, its abstract and public reviews tell: keys of a low block say which patches repeat others, and with that
how many tokens the tile may lose; so many are drawn by the low block's class attention; what a deep block's class
attention marks as outliers stays as well; the page's global tile is spared. The code was never published, and the block
numbers and thresholds are not known to us: the defaults are our own and wait for calibration. Our own are also the mean
over heads, the cosine over all heads at once, who is merged into whom, and what holds for windows: a window repeats
others when all its patches do, its probability is their mean, its outlier score their largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.attention import HeadReduction, PageQuery, outliers
from llava_som.pruning.base import Choice, TilePruner, TileView, check_share, keep_top
from llava_som.pruning.budget import apportion
from llava_som.pruning.merging import averaged_into_nearest, cosine_similarities, nearest_added

Sampler = Literal["multinomial", "gumbel_topk", "topk"]


@PRUNERS.register("token_correlation")
@dataclass(frozen=True, kw_only=True)
class TokenCorrelationPruner(TilePruner):
    """Keeps as many tokens as a tile has patches that do not repeat others, and what holds global information."""

    layer_low: int = option(2, help="number of the vision block that tells what repeats and what is seen")
    layer_deep: int = option(-2, help="number of the vision block that tells where global information is kept")
    similarity_threshold: float = option(0.9, help="cosine of two patches' keys above which they are alike")
    redundant_count: float = option(
        0.1, help="a patch is redundant when more than so many others are like it; below 1 a share of all, else a count"
    )
    sampler: Sampler = option(
        "multinomial",
        help="how tokens are drawn in training: multinomial and gumbel_topk are one law, drawn without replacement by "
        "probability; topk takes the most probable",
    )
    eval_sampler: Sampler = option("topk", help="the same at inference")
    use_global: bool = option(True, help="also keep the outliers of the deep block's attention")
    iqr_factor: float = option(1.5, help="outliers lie so many interquartile ranges above the third quartile")
    aggregate: Literal["none", "weighted", "prumerge"] = option(
        "none",
        help="weighted: each dropped token is averaged into the kept one with the most similar deep key, by deep "
        "attention; prumerge: each kept token gains the attention-weighted sum of its nearest",
    )
    merge_neighbours: int = option(32, help="how many are nearest, with aggregate=prumerge")
    max_keep_ratio: float = option(1.0, help="a tile keeps at most this share of its tokens")
    token_budget: int | None = option(
        None, help="the pruned tiles of a page together keep at most so many tokens; min_tokens of each come first"
    )
    head_reduce: HeadReduction = option("mean", help="what is made of the attention of several heads")
    query_is: PageQuery = option(
        "cls", help="whose attention: cls, the class token where there is one, or mean_patch, the mean query"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold={self.similarity_threshold}: must be a cosine, from -1 to 1.")
        for name, least in (("redundant_count", 0), ("iqr_factor", 0), ("merge_neighbours", 1), ("token_budget", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value}: must be at least {least}.")
        check_share("max_keep_ratio", self.max_keep_ratio)

    def layers(self) -> tuple[int, ...]:
        """The low block, and the deep one where it is used."""
        needs_deep = self.use_global or self.aggregate != "none"
        return (self.layer_low, self.layer_deep) if needs_deep else (self.layer_low,)

    def choose(self, view: TileView) -> Choice:
        """Local tokens by low attention, global ones by deep attention."""
        low = view.attention[self.layer_low]
        redundant = view.units.all(self.redundant(low.patch_keys()))
        probability = view.units.mean(low.attention_of_page(self.query_is, self.head_reduce))
        scores = self._draw(probability, view)
        local = keep_top(scores, torch.minimum((~redundant).sum(dim=1), (probability > 0).sum(dim=1)))
        is_global = self._global_tokens(view)
        counts = self._limited((local | is_global).sum(dim=1), view)
        keep = keep_top(scores.masked_fill(is_global, torch.inf), counts)  # all of local | is_global, unless limited
        density = 1 - redundant.float().mean(dim=1)
        return Choice(keep, self._aggregated(view, keep), scores, density)

    def redundant(self, keys_NTC: Tensor) -> Tensor:
        """Which patches are like more than `redundant_count` others of their tile, bool `[N, T]`."""
        most = self.redundant_count * (keys_NTC.shape[1] if self.redundant_count < 1 else 1)
        alike = []
        for _, similar_nTT in cosine_similarities(keys_NTC):
            similar_nTT.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
            alike.append((similar_nTT > self.similarity_threshold).sum(dim=2))
        return torch.cat(alike) > most

    def _draw(self, probability_NU: Tensor, view: TileView) -> Tensor:
        """Scores whose highest are the tokens drawn: Gumbel noise on logarithms draws without replacement."""
        scores = probability_NU.log()
        if (self.sampler if view.training else self.eval_sampler) == "topk":
            return scores
        uniform = view.uniform(self.seed).clamp(min=torch.finfo(torch.float32).tiny)
        return scores - (-uniform.log()).log()

    def _global_tokens(self, view: TileView) -> Tensor:
        """Outliers of the deep block's attention, bool `[N, U]`."""
        if not self.use_global:
            return torch.zeros(view.features.shape[:2], dtype=torch.bool, device=view.features.device)
        attention = view.attention[self.layer_deep].attention_of_page(self.query_is, self.head_reduce)
        return outliers(view.units.largest(attention), self.iqr_factor)

    def _limited(self, counts_N: Tensor, view: TileView) -> Tensor:
        """The number of tokens that each tile keeps, within all limits, `[N]`."""
        count = view.units.count
        least = min(self.min_tokens, count)
        counts = counts_N.clamp(max=math.floor(self.max_keep_ratio * count + 1e-9)).clamp(min=least)
        if self.token_budget is None:
            return counts
        spared = view.is_global() & (self.apply_to == "crops")
        limited, first = counts.clone(), 0
        for page in view.pages:
            tiles = torch.arange(first, first + page.num_tiles, device=counts.device)
            tiles = tiles[~spared[tiles]]
            limited[tiles] = apportion(counts[tiles], counts[tiles], self.token_budget, least)
            first += page.num_tiles
        return limited

    def _aggregated(self, view: TileView, keep: Tensor) -> Tensor:
        """The features, with dropped tokens merged into kept ones."""
        if self.aggregate == "none":
            return view.features
        deep = view.attention[self.layer_deep]
        keys = view.units.mean(deep.patch_keys().float())
        weights = view.units.mean(deep.attention_of_page(self.query_is, self.head_reduce))
        if self.aggregate == "weighted":
            return averaged_into_nearest(view.features, keys, weights, keep)
        merged = nearest_added(view.features, keys, weights, self.merge_neighbours)
        return torch.where(keep.all(dim=1).view(-1, 1, 1), view.features, merged)

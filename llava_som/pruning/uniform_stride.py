"""Evenly spaced tokens: the baseline that knows nothing and covers everything."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llava_som.pruning import PRUNERS
from llava_som.pruning.base import BudgetPruner, Choice, TileView


@PRUNERS.register("uniform_stride")
@dataclass(frozen=True, kw_only=True)
class UniformStridePruner(BudgetPruner):
    """The tokens of a tile, row by row, at equal distances."""

    def choose(self, view: TileView) -> Choice:
        """The budget's number of places, the same in every tile."""
        count, budget = view.units.count, self.budget(view.units.count)
        places = (2 * torch.arange(budget) + 1) * count // (2 * budget)  # the middle of equal stretches
        keep = torch.zeros(count, dtype=torch.bool)
        keep[places] = True
        keep = keep.to(view.features.device).expand(len(view.features), count)
        return Choice(keep, view.features, keep.float())

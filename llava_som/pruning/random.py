"""Random tokens: the baseline that published pruners do not always beat (UniPruneBench, arXiv 2511.02650)."""

from __future__ import annotations

from dataclasses import dataclass

from llava_som.pruning import PRUNERS
from llava_som.pruning.base import BudgetPruner, Choice, TileView


@PRUNERS.register("random")
@dataclass(frozen=True, kw_only=True)
class RandomPruner(BudgetPruner):
    """Each token is as likely to stay as any other."""

    def choose(self, view: TileView) -> Choice:
        """So many at random."""
        scores = view.uniform(self.seed)
        return Choice(self.highest(scores), view.features, scores)

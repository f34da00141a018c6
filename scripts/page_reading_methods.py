"""What the page-reading experiment compares: trained models, and pruners on the trained base at equal budgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from page_reading_model import TEXT
from torch import Tensor

BASE = "h_reducer"
TRAINED: dict[str, dict[str, Any]] = {
    BASE: {"projector": "h_reducer"},
    "one tile": {"projector": "h_reducer", "tiling": {"grids": "grid_1", "global_tile": False}},
    "pixel_shuffle": {"projector": "pixel_shuffle"},
    "avgpool": {"projector": "avgpool"},
    "doc_compressor": {"projector": "h_reducer", "compressor": {"type": "doc_compressor", "heads": 4}},
    "group_mean": {"projector": "h_reducer", "compressor": "group_mean"},
    "complete_attention": {"projector": "h_reducer", "compressor": {"type": "complete_attention", "heads": 4}},
}
"""Arguments of `assemble`, by the name of the row."""

TRAINED_PRUNED, TRAINED_PRUNED_SHARE = "token_correlation, trained with it", 0.5
CROPS, GLOBAL = 64, 16  # tokens of a page: those of its 4 crops, and of its global tile, which pruners spare
SHARES = (0.75, 0.5, 0.25)
_PAGE = CROPS + GLOBAL
_LAYERS = int(TEXT["num_hidden_layers"])


@dataclass(frozen=True)
class Pruner:
    """A pruner whose budget is one number.

    Attributes:
        type: its registered name.
        option: the number that decides how much stays.
        value: what it is set to for a share of the crops' tokens; None: what gives that share on average over the
            calibration pages is looked for between `low` and `high`.
        low: where most stays, or least.
        high: where least stays, or most.
        fixed: other options.
    """

    type: str
    option: str = "keep_ratio"
    value: Callable[[float], float] | None = None
    low: float = 0.0
    high: float = 1.0
    fixed: tuple[tuple[str, Any], ...] = ()

    def options(self, value: float) -> dict[str, Any]:
        """Of `set_pruning`."""
        return {"type": self.type, "min_tokens": 1, **dict(self.fixed), self.option: value}


def _same(share: float) -> float:
    return share


def _of_layers(share: float) -> float:
    """Mean tokens of the decoder's layers at a share, in pages."""
    return (GLOBAL + CROPS * share) / _PAGE * _LAYERS


PRUNERS: dict[str, Pruner] = {
    "random": Pruner("random", value=_same),
    "uniform_stride": Pruner("uniform_stride", value=_same),
    "blank_patch": Pruner("blank_patch", value=_same),
    "blank_patch, threshold": Pruner("blank_patch", "threshold", high=3.0),
    "token_correlation": Pruner(
        "token_correlation", "similarity_threshold", low=-1.0,
        fixed=(("layer_low", 0), ("layer_deep", -1), ("use_global", False)),
    ),
    "prumerge": Pruner("prumerge", low=0.001),
    "prumerge_plus": Pruner("prumerge_plus", low=0.001),
    "visionzip": Pruner("visionzip", "dominant", low=0.0, high=0.999, fixed=(("layer", -1), ("contextual", 0.0625))),
    "hired": Pruner("hired", value=_same, fixed=(("apply_to", "crops"), ("layer_deep", -1))),
    "fastv": Pruner("fastv", value=lambda share: (_of_layers(share) - 1) / (_LAYERS - 1), fixed=(("layer", 1),)),
    "pyramiddrop": Pruner(
        "pyramiddrop",
        value=lambda share: (math.sqrt(4 * _of_layers(share) - 3) - 1) / 2,  # 1 + r + r^2 layers full of tokens
        fixed=(("stage_ends", (1 / 3, 2 / 3)),),
    ),
}  # fmt: skip
"""By the name of the row. FastV and PyramidDrop get the budget as a mean over the decoder's layers."""


def budgeted(pruner: Pruner, share: float, model: Any, tiles: dict[str, Tensor]) -> dict[str, Any]:
    """Options of a pruner with which a share of the crops' tokens stays.

    Args:
        pruner: whose number is set.
        share: of the tokens of the crops.
        model: which encodes pages for a number that has to be looked for; it is left without pruning.
        tiles: pages for that.
    """
    if pruner.value is not None:
        return pruner.options(pruner.value(share))
    low, high, wanted = pruner.low, pruner.high, GLOBAL + CROPS * share
    at_low, at_high = (mean_tokens(model, pruner.options(value), tiles) for value in (low, high))
    found = min((abs(at_low - wanted), low), (abs(at_high - wanted), high))
    for _ in range(12):
        middle = (low + high) / 2
        tokens = mean_tokens(model, pruner.options(middle), tiles)
        found = min(found, (abs(tokens - wanted), middle))
        low, high = (middle, high) if (tokens < wanted) == (at_low < at_high) else (low, middle)
    return pruner.options(found[1])


@torch.no_grad()
def mean_tokens(model: Any, pruning: dict[str, Any], tiles: dict[str, Tensor]) -> float:
    """Tokens of a page that a pruner before the decoder leaves, mean over pages."""
    model.set_pruning(pruning)
    kept = [len(tokens) for tokens in model.get_image_features(**tiles).pooler_output]
    model.set_pruning(None)
    return sum(kept) / len(kept)


def decoder_tokens(given: float, pruning: dict[str, Any] | None) -> float:
    """Image tokens of a decoder layer, mean over the layers, when the first one is given so many."""
    if pruning is None or pruning["type"] not in ("fastv", "pyramiddrop"):
        return given
    left = [given, given * pruning["keep_ratio"]]
    left.append(left[1] * pruning["keep_ratio"] if pruning["type"] == "pyramiddrop" else left[1])
    return sum(left) / len(left)

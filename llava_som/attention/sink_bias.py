"""A constant on the logits of attention sinks: the plain alternative that ACT (arXiv 2406.15765) is measured against.

ACT leaves a sink `beta` of its attention. Here `log beta` is added to its logit, and softmax divides by what is left:
the sink keeps more than `beta`, by a factor that grows with the attention it had.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.column_sinks import ColumnSinks
from llava_som.config_file import option


@INTERVENTIONS.register("sink_bias")
@dataclass(frozen=True, kw_only=True)
class SinkBias(ColumnSinks):
    """`log beta` on the logits of sinks, which are found as in ACT; it is not ACT, whose bias depends on the query."""

    paper: ClassVar[str] = "baseline; sinks as in Yu et al. (ACT), ICML 2024, arXiv 2406.15765"

    beta: float = option(0.4, help="what a sink's attention is multiplied by before rows are normalised again")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta={self.beta}: must be above 0; below 1 weakens sinks, 1 changes nothing.")

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        return "beta=1 leaves sinks all they have" if self.beta == 1 else super().idle_reason(had_image)

    def coefficients(self, mass_HRG: Tensor) -> Tensor:
        """Softmax with the bias, from the attention to sinks without it."""
        return biased(mass_HRG[..., 1], self.beta)

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None, layer: int = 0
    ) -> Tensor:
        """Softmax of the logits with the bias."""
        is_sink = self.sinks_of(attention if observed is None else observed, layer)
        return softmax_with_bias(attention, is_sink, math.log(self.beta))


def biased(mass_HR: Tensor, factor: float) -> Tensor:
    """What `log(factor)` on the logits of keys that get `mass` does: coefficients of the others and theirs, `[..., 2]`.

    What no key gets (the sink logit of gpt-oss) is normalised as well, so it counts among the others.
    """
    others = 1 / (1 - mass_HR + factor * mass_HR)
    return torch.stack([others, factor * others], dim=-1)


def softmax_with_bias(attention: Tensor, is_biased: Tensor, bias: float) -> Tensor:
    """The same from whole weights `[B, H, Q, K]` and which keys get the bias, bool broadcastable to them."""
    logits = torch.cat([attention, 1 - attention.sum(dim=-1, keepdim=True).clamp(max=1)], dim=-1).log()
    logits[..., :-1] += bias * is_biased
    return logits.softmax(dim=-1)[..., :-1]

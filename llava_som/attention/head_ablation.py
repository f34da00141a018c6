"""Heads without their attention (arXiv 2410.13708): how much a model needs a head.

`undifferentiated`: the head attends evenly to every token that it sees, as it would with queries of 0; what it reads is
an average. `scaling`: its output is made small. Layers without ablated heads are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import RowFunction
from llava_som.attention.by_head import ByHead
from llava_som.attention.call import LayerCall
from llava_som.config_file import option


@INTERVENTIONS.register("head_ablation")
@dataclass(frozen=True, kw_only=True)
class HeadAblation(ByHead, RowFunction):
    """Ablates heads while a model runs; `llava_som.attention.head_attribution` ranks heads by what that does."""

    paper: ClassVar[str] = "Zhou et al., On the Role of Attention Heads in LLM Safety, ICLR 2025, arXiv 2410.13708"

    heads: list[int] | dict[int, list[int]] | Path = option(
        help="heads to ablate: of every layer in layers, by layer, or a heads.json"
    )
    mode: Literal["undifferentiated", "scaling"] = option(
        "undifferentiated",
        help="attend evenly to all tokens so far, or multiply the head's output by epsilon (scaling)",
    )
    epsilon: float = option(1e-4, help="of scaling; 0 takes the head out, 1 changes nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("undifferentiated", "scaling"):
            raise ValueError(f"mode={self.mode!r}: allowed are undifferentiated and scaling.")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon={self.epsilon}: must be from 0 to 1.")

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        if self.mode == "scaling" and self.epsilon == 1:
            return "epsilon=1 leaves heads what they say"
        return f"{super().idle_reason(had_image)}, or attention is even already"

    def rewrite(self, weights: Tensor, scores: Tensor, call: LayerCall, rows: slice) -> Tensor:
        """Even or smaller weights in the chosen heads."""
        return self._ablated(weights, scores > -torch.inf, call.layer)

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None, layer: int = 0
    ) -> Tensor:
        """The same; a query sees the tokens to which it gave any attention."""
        return self._ablated(attention, (attention if observed is None else observed) > 0, layer)

    def _ablated(self, weights: Tensor, sees: Tensor, layer: int) -> Tensor:
        even = sees / sees.sum(dim=-1, keepdim=True).clamp(min=1)
        new = self.epsilon * weights if self.mode == "scaling" else even.to(weights.dtype)
        return torch.where(self.is_chosen(layer, weights), new, weights)

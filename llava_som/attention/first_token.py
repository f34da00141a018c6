"""ZeroTuning (arXiv 2505.11739): a bias on the logit of the first token, which is the sink of most heads.

Every other token's attention is divided by the same number, so a bias above 0 evens a row out and one below 0 sharpens
it, whatever is in the prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import KeyGroups
from llava_som.attention.by_head import ByHead
from llava_som.attention.call import LayerCall
from llava_som.attention.sink_bias import biased, softmax_with_bias
from llava_som.config_file import option


@INTERVENTIONS.register("first_token")
@dataclass(frozen=True, kw_only=True)
class FirstToken(ByHead, KeyGroups):
    """A bias on the logit of the first token of a prompt that is no padding.

    The paper finds the bias, and the heads that get it, on held-out samples or by the entropy of the answer; here both
    are given. Its scale gamma is `exp(bias)`.
    """

    paper: ClassVar[str] = "Han et al., ZeroTuning, arXiv 2505.11739"
    groups: ClassVar[tuple[str, ...]] = ("rest", "first token")

    bias: float = option(
        help="added to the first token's logit, log(gamma) of the paper; it depends on the task, so it has no default"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.bias):
            raise ValueError(f"bias={self.bias}: must be a number; 0 changes nothing, -0.7 halves the first token.")

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        if self.bias == 0:
            return "bias=0 leaves the first token what it has"
        return f"{super().idle_reason(had_image)}, or the chosen heads do not attend to the first token"

    def labels(self, call: LayerCall) -> Tensor:
        """The first token, by head where heads are chosen."""
        places = torch.arange(call.tokens.is_token.shape[1], device=call.tokens.is_token.device)
        is_first = places == call.tokens.first.unsqueeze(1)
        if self.heads is None:
            return is_first.to(torch.uint8)
        return self.in_heads(is_first.unsqueeze(1), call.layer, call.query.shape[1])

    def coefficients(self, mass_HRG: Tensor) -> Tensor:
        """Softmax with the bias, from the attention to the first token without it."""
        return biased(mass_HRG[..., 1], math.exp(self.bias))

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None, layer: int = 0
    ) -> Tensor:
        """Softmax of the logits with the bias; the first token is the first that any query sees."""
        observed = attention if observed is None else observed
        first = (observed > 0).any(dim=2).any(dim=1).int().argmax(dim=1)
        is_first = torch.arange(attention.shape[3], device=attention.device) == first.view(-1, 1, 1, 1)
        return softmax_with_bias(attention, is_first & self.is_chosen(layer, attention), self.bias)

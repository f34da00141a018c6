"""ACT, Attention Calibration Technique (Yu et al., ICML 2024, arXiv 2406.15765).

In chosen heads, tokens that queries attend to far beyond an even share are sinks: they keep a part of that attention,
and the other tokens of a row get the rest in proportion to what they have. The first token is never shrunk. Which heads
to choose is found by `llava_som.attention.calibrate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.column_sinks import ColumnSinks
from llava_som.config_file import option


@INTERVENTIONS.register("act")
@dataclass(frozen=True, kw_only=True)
class ACT(ColumnSinks):
    """Attention from sinks to everything else, in calibrated heads.

    Sinks are found by layer and head from the queries of the prompt, and stay the same while the answer is written. The
    released code edits prompts only (its rows would not sum to one in decoding), and spares the first sink it finds
    where this spares the first token, as published.
    """

    paper: ClassVar[str] = "Yu et al., Unveiling and Harnessing Hidden Attention Sinks, ICML 2024"

    beta: float = option(0.4, help="share of their attention that sinks keep; 1 changes nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta={self.beta}: must be from 0 to 1 (1 changes nothing).")

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        return "beta=1 leaves sinks all they have" if self.beta == 1 else super().idle_reason(had_image)

    def coefficients(self, mass_HRG: Tensor) -> Tensor:
        """Sinks keep beta, the rest gets what they lose; a row with nothing but sinks stays as it is."""
        rest, sinks = mass_HRG.unbind(dim=-1)
        least = torch.finfo(rest.dtype).eps
        has_rest = rest > least
        received = torch.where(has_rest, (1 - self.beta) * sinks / rest.clamp(min=least), 0.0)
        return torch.stack([1 + received, torch.where(has_rest, torch.full_like(rest, self.beta), 1.0)], dim=-1)

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None, layer: int = 0
    ) -> Tensor:
        """In whole weights: sinks are looked for in all rows that are given."""
        is_sink = self.sinks_of(attention if observed is None else observed, layer)
        on_sinks = (attention * is_sink).sum(dim=-1, keepdim=True)
        rest = (attention * ~is_sink).sum(dim=-1, keepdim=True)
        edited = attention * torch.where(is_sink, self.beta, 1 + (1 - self.beta) * on_sinks / rest)
        return torch.where(rest > torch.finfo(rest.dtype).eps, edited, attention)

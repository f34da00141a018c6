"""Sinks by column: tokens that queries attend to far beyond an even share, on average, as in ACT (arXiv 2406.15765).

They are found from prompts, by layer and head, and stay the same while the answer is written. The first token, which is
the sink of nearly every head, is never counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from llava_som.attention.base import KeyGroups
from llava_som.attention.by_head import ByHead
from llava_som.attention.call import LayerCall
from llava_som.config_file import option


@dataclass(frozen=True, kw_only=True)
class ColumnSinks(ByHead, KeyGroups):
    """Key groups that set sinks apart; subclasses say what becomes of the attention to them."""

    groups: ClassVar[tuple[str, ...]] = ("rest", "sinks")

    alpha: float = option(
        5.0, help="a sink gets more than alpha / N of the attention, mean over the queries that see it"
    )
    threshold: float | None = option(None, help="instead of alpha / N, a constant; the released code of ACT has 0.1")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "threshold"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name}={value}: must be above 0.")

    def default_layers(self, depth: int) -> Sequence[int]:
        """All but the first two and the last, which have no such sinks."""
        return range(2, depth - 1)

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        if self.layers == [] or self.heads in ([], {}):
            return super().idle_reason(had_image)
        limit = f"threshold={self.threshold}" if self.threshold is not None else f"alpha={self.alpha} / N"
        return f"in the chosen heads and layers no token but the first gets more than {limit} of the attention"

    def labels(self, call: LayerCall) -> Tensor:
        """Sinks by head, `[B, H, L]`: looked for in prompts, also in one read in chunks; a generated token is none."""
        heads, name, answer = self.heads_of(call.layer, call.query.shape[1]), f"{self.name} sinks", call.prompt.answer
        if call.past and (call.hidden.shape[1] == 1 or (answer is not None and call.past >= answer)):
            generated = torch.zeros(*call.query.shape[:3], dtype=torch.uint8, device=call.query.device)
            return call.remember(name, generated)
        total, seen = call.add_up(f"{self.name} columns", torch.stack(call.column_sums(heads), dim=1)).unbind(dim=1)
        is_token, first = call.tokens.is_token[:, :answer].to(total.device), call.tokens.first.to(total.device)
        is_sink = total / seen.clamp(min=1) > self._limit(is_token.sum(dim=1)).view(-1, 1, 1)
        is_sink &= torch.arange(total.shape[-1], device=total.device) != first.view(-1, 1, 1)
        return call.put(name, self.in_heads(is_sink, call.layer, call.query.shape[1]))

    def sinks_of(self, observed: Tensor, layer: int) -> Tensor:
        """Sinks in plain mathematics: of whole weights of a prompt `[B, H, T, T]`, bool `[B, H, 1, T]`.

        A query sees a key where its weight is not 0, and padding is what no query sees.
        """
        sees = observed > 0
        mean = observed.sum(dim=2) / sees.sum(dim=2).clamp(min=1)
        is_token = sees.any(dim=2).any(dim=1)
        is_sink = mean > self._limit(is_token.sum(dim=1)).view(-1, 1, 1)
        is_sink[torch.arange(len(is_sink)), :, is_token.int().argmax(dim=1)] = False
        return is_sink.unsqueeze(2) & self.is_chosen(layer, observed)

    def _limit(self, tokens: Tensor) -> Tensor:
        """What the mean attention to a sink exceeds, among N tokens."""
        if self.threshold is None:
            return self.alpha / tokens
        return torch.full_like(tokens, self.threshold, dtype=torch.float32)

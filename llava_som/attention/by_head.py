"""Interventions that edit some heads of a layer: which ones, from a list, by layer, or from a heads.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from llava_som.attention.base import Intervention
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.heads import HeadChoice, checked_heads
from llava_som.config_file import option


@dataclass(frozen=True, kw_only=True)
class ByHead(Intervention):
    """An intervention with a choice of heads."""

    heads: list[int] | dict[int, list[int]] | Path | None = option(
        None, help="heads to edit: of every layer, by layer, or a heads.json; by default all"
    )

    def bound(self, decoder: DecoderLayers) -> Self:
        """With the heads of its file, checked against the decoder, and no layers but those that have heads."""
        heads = HeadChoice.load(self.heads).for_decoder(decoder) if isinstance(self.heads, Path | str) else self.heads
        checked_heads(heads, decoder)
        if not isinstance(heads, dict):
            return replace(self, heads=heads)
        chosen = sorted(layer for layer, numbers in heads.items() if numbers)
        if self.layers is None:
            return replace(self, heads=heads, layers=chosen)
        both = [layer for layer in self.layers_of(len(decoder.modules)) if layer in chosen]
        if self.layers and chosen and not both:
            raise ValueError(f"layers={self.layers}: heads are chosen in layers {chosen} only. Leave layers out.")
        return replace(self, heads=heads, layers=both)

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        if self.layers == [] or self.heads in ([], {}):
            return "no head is chosen"
        return super().idle_reason(had_image)

    def heads_of(self, layer: int, count: int) -> list[int]:
        """The chosen ones of the `count` heads of a layer."""
        if self.heads is None:
            return list(range(count))
        assert not isinstance(self.heads, Path | str), "bound first"
        return sorted(set(self.heads.get(layer, []) if isinstance(self.heads, dict) else self.heads))

    def in_heads(self, label_B1L: Tensor, layer: int, count: int) -> Tensor:
        """Labels `[B, 1, L]`, or `[B, heads, L]` of the chosen heads, as uint8 `[B, H, L]`; 0 in other heads."""
        batch, _, length = label_B1L.shape
        labels = torch.zeros(batch, count, length, dtype=torch.uint8, device=label_B1L.device)
        labels[:, self.heads_of(layer, count)] = label_B1L.to(torch.uint8)
        return labels

    def is_chosen(self, layer: int, attention: Tensor) -> Tensor:
        """Which heads of `[B, H, Q, K]` are chosen, bool `[H, 1, 1]`."""
        chosen = torch.zeros(attention.shape[1], 1, 1, dtype=torch.bool, device=attention.device)
        chosen[self.heads_of(layer, len(chosen))] = True
        return chosen

"""A prompt without the placeholders of dropped tokens: ids, mask, labels, positions and embeddings stay in step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shortening:
    """Which tokens of a batch stay, and where they go.

    Attributes:
        source: the old position of each new one, `[B, L']`.
        is_token: bool, `[B, L']`; False where a new position is padding, whose `source` means nothing.
    """

    source: Tensor
    is_token: Tensor

    @classmethod
    def of(cls, keep: Tensor, padding_side: Literal["left", "right"]) -> Shortening:
        """Tokens that `keep` `[B, L]` leaves, in their order, padded to the longest row."""
        counts = keep.sum(dim=1, keepdim=True)
        length = int(counts.max())
        places = torch.arange(length, device=keep.device).expand(len(keep), length)
        if padding_side == "right":
            return cls((~keep).int().argsort(dim=1, stable=True)[:, :length], places < counts)
        return cls(keep.int().argsort(dim=1, stable=True)[:, keep.shape[1] - length :], places >= length - counts)

    def apply(self, values: Tensor, padding: float) -> Tensor:
        """`[B, L]` to `[B, L']`."""
        return values.gather(1, self.source).masked_fill(~self.is_token, padding)

    def positions(self) -> Tensor:
        """Position ids from 0, `[B, L']`; of padding, 0 or the last one."""
        return (self.is_token.cumsum(dim=1) - 1).clamp(min=0)


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt whose images are encoded.

    Attributes:
        input_ids: `[B, L]`, with a placeholder for each image feature.
        attention_mask: `[B, L]`, or None.
        image_features: `[S, D_text]`, in the order of the placeholders.
        shortening: how it came from the prompt that was given; None where nothing was dropped.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    image_features: Tensor
    shortening: Shortening | None = None


def padding_side_of(attention_mask: Tensor | None, default: Literal["left", "right"]) -> Literal["left", "right"]:
    """Where a mask has its padding; `default` where it has none."""
    if attention_mask is None or attention_mask.all():
        return default
    return "left" if bool((attention_mask[:, 0] == 0).any()) else "right"

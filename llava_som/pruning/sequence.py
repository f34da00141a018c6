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

    def positions(self, given: Tensor) -> Tensor:
        """Position ids `[1 or B, L]` without gaps where tokens went, `[B, L']`; 0 for padding.

        A sample keeps the position it begins with. It begins wherever `given` does not go on by one, so give padding a
        position that does not lead on to one.
        """
        given = given.expand(len(self.source), -1)
        is_gone = torch.ones_like(given).scatter(1, self.source, (~self.is_token).to(given))
        gone = is_gone.cumsum(dim=1)
        begins = torch.cat([torch.ones_like(given[:, :1]), given.diff(dim=1) != 1], dim=1).bool()
        gone_before_sample = torch.where(begins, gone - is_gone, 0).cummax(dim=1).values
        return self.apply(given - gone + gone_before_sample, padding=0)


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt whose images are encoded.

    Attributes:
        input_ids: `[B, L]`, with a placeholder for each image feature.
        attention_mask: `[B, L]`, or None.
        position_ids: `[B, L]`, or None.
        image_features: `[S, D_text]`, in the order of the placeholders.
        shortening: how it came from the prompt that was given; None where nothing was dropped.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    image_features: Tensor
    shortening: Shortening | None = None

    def without(self, dropped: Tensor, padding_side: Literal["left", "right"], padding_id: int) -> EncodedPrompt:
        """The prompt without some of its tokens.

        Args:
            dropped: which, bool `[B, L]`.
            padding_side: where rows are filled up, if there is no padding yet that shows it.
            padding_id: with what.

        Raises:
            ValueError: a mask that is not of the prompt's own shape.
        """
        mask, positions = self.attention_mask, self.position_ids
        if mask is not None and mask.shape != dropped.shape:
            raise ValueError(
                f"attention_mask is {list(mask.shape)}, input_ids {list(dropped.shape)}: where pruning shortens a "
                "prompt they must have the same shape. Give the whole prompt at once, without past_key_values."
            )
        is_token = torch.ones_like(dropped) if mask is None else mask.bool()
        shortening = Shortening.of(is_token & ~dropped, padding_side_of(mask, padding_side))
        if positions is not None:
            positions = shortening.positions(torch.where(is_token, positions, -2))  # padding is part of no sample
        is_packed = mask is None and positions is not None  # decoders then tell samples apart by positions alone
        short_mask = None if is_packed else shortening.is_token.to(torch.long)
        short_ids = shortening.apply(self.input_ids, padding=padding_id)
        return EncodedPrompt(short_ids, short_mask, positions, self.image_features, shortening)


def padding_side_of(attention_mask: Tensor | None, default: Literal["left", "right"]) -> Literal["left", "right"]:
    """Where a mask has its padding; `default` where it has none."""
    if attention_mask is None or attention_mask.all():
        return default
    return "left" if bool((attention_mask[:, 0] == 0).any()) else "right"

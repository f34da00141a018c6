"""Samples of different lengths to one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from llava_som.data.dataset import IGNORE_INDEX


@dataclass(frozen=True)
class Collator:
    """Pads text and concatenates the images of the whole batch.

    A batch without any image has `pixel_values` and `image_grids` None; the model then runs its vision path with
    weight 0.

    Args:
        pad_token_id: fills `input_ids`; masked in `attention_mask` and -100 in `labels`.
        padding_side: right for training, left for generation.
    """

    pad_token_id: int
    padding_side: Literal["right", "left"] = "right"

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The batch.

        Returns:
            `sample_ids`; `input_ids`, `attention_mask` and `labels`, `[B, L]`; `pixel_values` `[N, 3, S, S]` and
            `image_grids` `[P, 2]`, or None.
        """
        return {
            "sample_ids": [sample["sample_id"] for sample in samples],
            "input_ids": self._pad([sample["input_ids"] for sample in samples], self.pad_token_id),
            "attention_mask": self._pad([[1] * len(sample["input_ids"]) for sample in samples], 0),
            "labels": self._pad([sample["labels"] for sample in samples], IGNORE_INDEX),
            "pixel_values": _joined([sample["pixel_values"] for sample in samples]),
            "image_grids": _joined([sample.get("image_grids") for sample in samples]),
        }

    def _pad(self, rows: Sequence[Sequence[int]], value: int) -> Tensor:
        longest = max(map(len, rows))
        filling = [[value] * (longest - len(row)) for row in rows]
        pairs = zip(rows, filling, strict=True)
        return torch.tensor([[*row, *fill] if self.padding_side == "right" else [*fill, *row] for row, fill in pairs])


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """The tensors of those samples that have one, one after the other; None when none has."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None

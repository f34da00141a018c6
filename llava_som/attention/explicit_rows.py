"""Edited rows of attention, computed explicitly: right whatever the mask, the soft cap or the cache.

The way of decoding, of short questions, and of what fused kernels cannot do. A block of rows is in memory at a time,
and keys are never copied for the query heads that share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llava_som.attention.base import Intervention, KeyGroups, RowFunction, one_hot
from llava_som.attention.call import LayerCall
from llava_som.attention.stats import Tally

ROWS = 64  # of a block


@dataclass(frozen=True)
class Step:
    """One intervention in one call.

    Attributes:
        method: the intervention.
        first_row: position of the first query that it edits, `[B]`.
        labels: the group of each key, `[B, 1 or H, K]`; None of a row function.
        tally: what is counted about it.
    """

    method: Intervention
    first_row: Tensor
    labels: Tensor | None
    tally: Tally

    @classmethod
    def of(cls, method: Intervention, call: LayerCall, tally: Tally) -> Step:
        """What the intervention finds in this call."""
        labels = None
        if isinstance(method, KeyGroups):
            labels = method.labels(call)
            labels = labels if labels.ndim == 3 else labels.unsqueeze(1)
            if call.query.shape[2] > 1:
                tally.count_found(method.groups, labels[..., call.past :], call.tokens.is_token[:, call.past :])
            labels = call.of_keys(labels)
        return cls(method, method.first_row(call).to(call.query.device), labels, tally)

    def edits(self, positions: Tensor) -> Tensor:
        """Which queries it edits, bool `[B, 1, R]`."""
        return positions >= self.first_row.view(-1, 1, 1)


def edited_rows(call: LayerCall, steps: Sequence[Step], rows: slice) -> Tensor:
    """Some rows explicitly, a block at a time, `[B, H, R, dv]`."""
    batch, heads = call.query.shape[:2]
    output = call.value.new_empty(batch, heads, rows.stop - rows.start, call.value.shape[-1])
    for start in reversed(range(rows.start, rows.stop, ROWS)):  # the largest block first: later ones reuse its memory
        block = slice(start, min(start + ROWS, rows.stop))
        keys = call.key.shape[2]
        if call.is_regular:
            keys = min(keys, call.past + block.stop - call.offset)
        scores = call.scores(block, keys)
        weights = call.weights(scores)
        for step in steps:
            weights = _stepped(step, weights, scores, call, block)
        output[:, :, start - rows.start : block.stop - rows.start] = call.times_values(weights)
    return output


def _stepped(step: Step, weights: Tensor, scores: Tensor, call: LayerCall, rows: slice) -> Tensor:
    edits = step.edits(call.positions[rows])
    if isinstance(step.method, RowFunction):
        new = step.method.rewrite(weights, scores, call, rows)
        step.tally.count_rows(edits, weights, new)
        return torch.where(edits.unsqueeze(-1), new, weights)
    assert isinstance(step.method, KeyGroups) and step.labels is not None
    columns = one_hot(step.labels[..., : weights.shape[-1]], len(step.method.groups), weights.dtype)
    if columns.shape[1] == 1:  # one matrix for all heads and rows of a prompt
        mass = (weights.flatten(1, 2) @ columns[:, 0]).view(*weights.shape[:3], -1)
    else:
        mass = weights @ columns
    factors = factors_of(step, mass, edits)
    if columns.shape[1] == 1:
        by_key = (factors.flatten(1, 2) @ columns[:, 0].transpose(-1, -2)).view_as(weights)
    else:
        by_key = factors @ columns.transpose(-1, -2)
    return weights * by_key


def factors_of(step: Step, mass: Tensor, edits: Tensor) -> Tensor:
    """Coefficients of the groups, 1 in rows that are left alone; `[B, H, R, G]`, or without B."""
    assert isinstance(step.method, KeyGroups)
    factors = torch.where(edits.unsqueeze(-1), step.method.coefficients(mass), 1.0)
    step.tally.count(edits, mass, factors)
    return factors

"""Edited attention, in one of two ways that give the same.

`rows`: the decoder's own function does everything, then the rows that are edited are computed again explicitly, one
block at a time. Right whatever the mask, the soft cap or the cache; the way of decoding and of short questions.

`fused`: no weight is ever stored. Keys of a prompt are cut into ranges of neighbours with one label; fused kernels give
each range's output and log-sum-exp, and the few keys that stick out of their range (sinks) are gathered and computed
explicitly. With L_r the LSE of range r, L that of the row, and a_j the weight of a gathered key,

    out = sum_r c[base(r)] e^(L_r - L) o_r + sum_j (c[label(j)] - c[base(r(j))]) a_j v_j

where c are the coefficients of the groups. Every pair of query and key is computed once, as without an edit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from llava_som.attention.base import Intervention, KeyGroups, RowFunction, one_hot
from llava_som.attention.call import LayerCall
from llava_som.attention.stats import Tally

ROWS = 64  # edited rows up to which computing them twice costs less than cutting the prompt; and rows of a block
_MOST_GATHERED = 256
_MOST_RANGES = 16
_MOST_GROWTH = 8.0  # of a range's rounding error; rows above are computed explicitly


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


def attend(call: LayerCall, steps: Sequence[Step], original: Any, route: str) -> Tensor:
    """Edited attention of a layer, `[B, H, Q, dv]`.

    Args:
        call: the attention call.
        steps: the interventions, in order.
        original: computes the unedited attention of the first `n` queries, or of all: `n -> [B, H, n, dv]`.
        route: "fused" where it can be, "rows", or "auto".
    """
    length = call.query.shape[2]
    if length == 1:  # without asking the device anything: rows that are left alone get coefficients of 1
        return edited_rows(call, steps, slice(0, 1))
    first = min(int(step.first_row.min()) for step in steps) - call.past
    if first >= length:
        return original(length)
    first = max(first, 0)
    if route != "rows" and length - first > (0 if route == "fused" else ROWS):
        plan = Plan.of(call, steps)
        if plan is not None:
            return plan.run()
    if first == 0:
        return edited_rows(call, steps, slice(0, length))
    return torch.cat([original(first), edited_rows(call, steps, slice(first, length))], dim=2)


def edited_rows(call: LayerCall, steps: Sequence[Step], rows: slice) -> Tensor:
    """Some rows explicitly, a block at a time, `[B, H, R, dv]`."""
    blocks = []
    for start in range(rows.start, rows.stop, ROWS):
        block = slice(start, min(start + ROWS, rows.stop))
        keys = call.key.shape[2]
        if call.is_regular:
            keys = min(keys, call.past + block.stop - call.offset)
        scores = call.scores(block, keys)
        weights = call.weights(scores)
        for step in steps:
            weights = _stepped(step, weights, scores, call, block)
        blocks.append(call.times_values(weights))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)


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
    factors = _factors(step, mass, edits)
    if columns.shape[1] == 1:
        by_key = (factors.flatten(1, 2) @ columns[:, 0].transpose(-1, -2)).view_as(weights)
    else:
        by_key = factors @ columns.transpose(-1, -2)
    return weights * by_key


def _factors(step: Step, mass: Tensor, edits: Tensor) -> Tensor:
    """Coefficients of the groups, 1 in rows that are left alone; `[B, H, R, G]`, or without B."""
    assert isinstance(step.method, KeyGroups)
    factors = torch.where(edits.unsqueeze(-1), step.method.coefficients(mass), 1.0)
    step.tally.count(edits, mass, factors)
    return factors


@dataclass(frozen=True)
class Plan:
    """How the prompts of a call are cut.

    Attributes:
        call: the attention call.
        steps: the interventions; all are `KeyGroups`.
        prompts: of each row of the batch.
    """

    call: LayerCall
    steps: Sequence[Step]
    prompts: Sequence[CutPrompt]

    @classmethod
    def of(cls, call: LayerCall, steps: Sequence[Step]) -> Plan | None:
        """A plan, or None where only explicit rows are right or worth it."""
        window = call.options.get("sliding_window")
        length = call.past + call.query.shape[2]
        is_plain = call.is_regular and call.offset == 0 and call.key.shape[2] == length
        is_plain = is_plain and call.options.get("softcap") is None and call.options.get("s_aux") is None
        is_plain = is_plain and (window is None or length <= window) and call.key.shape[-1] == call.value.shape[-1]
        if not is_plain or not all(isinstance(step.method, KeyGroups) for step in steps):
            return None
        prompts = [CutPrompt.of(call, steps, row) for row in range(len(call.query))]
        return cls(call, steps, prompts) if all(prompts) else None  # type: ignore[arg-type]

    def run(self) -> Tensor:
        """The edited attention, `[B, H, Q, dv]`."""
        return torch.stack([prompt.run() for prompt in self.prompts])


@dataclass(frozen=True)
class Range:
    """Neighbouring keys, `start` to `stop - 1`, and the cell that nearly all of them are in."""

    start: int
    stop: int
    cell: int


@dataclass(frozen=True)
class CutPrompt:
    """One prompt, its keys in ranges and gathered keys.

    A cell is a combination of the groups that the interventions put a key into.

    Attributes:
        call: the attention call.
        steps: the interventions.
        row: number of the prompt in the batch.
        ranges: of the prompt's tokens, padding left out.
        first: position of the first edited query.
        gathered: positions of keys outside the cell of their range, `[1 or H, n]`.
        is_gathered: which of these are real, bool `[1 or H, n]`: heads have different numbers of them.
        cells: their cells, `[1 or H, n]`.
    """

    call: LayerCall
    steps: Sequence[Step]
    row: int
    ranges: Sequence[Range]
    first: int
    gathered: Tensor
    is_gathered: Tensor
    cells: Tensor

    @classmethod
    def of(cls, call: LayerCall, steps: Sequence[Step], row: int) -> CutPrompt | None:
        """The cuts of a prompt; None where its tokens are not in one piece or too much sticks out."""
        spans = [span for span in call.tokens.spans[row] if span.kind != "padding"]
        if not spans or any(a.stop != b.start for a, b in pairwise(spans)):
            return None
        cells = _cells(steps, row)
        ranges = _ranges(cells, [(span.start, span.stop) for span in spans])
        if len(ranges) > _MOST_RANGES:
            return None
        base = torch.zeros(call.key.shape[2], dtype=cells.dtype, device=cells.device)
        inside = torch.zeros_like(base, dtype=torch.bool)
        for part in ranges:
            base[part.start : part.stop] = part.cell
            inside[part.start : part.stop] = True
        sticks_out = (cells != base) & inside
        most = int(sticks_out.sum(dim=-1).max())
        if most > _MOST_GATHERED:
            return None
        is_gathered, gathered = sticks_out.to(torch.uint8).topk(most, dim=-1)
        first = min(int(step.first_row[row]) for step in steps)
        return cls(call, steps, row, ranges, first, gathered, is_gathered.bool(), cells.gather(-1, gathered))

    def run(self) -> Tensor:
        """Edited attention of the prompt's queries, `[H, Q, dv]`; 0 for padding."""
        call = self.call
        start, stop = call.past, call.past + call.query.shape[2]
        begin, end = self.ranges[0].start, self.ranges[-1].stop
        edited = max(self.first, start, begin)
        output = call.value.new_zeros(call.query.shape[1], stop - start, call.value.shape[-1])
        for low, high, is_edited in _blocks(self.ranges, max(start, begin), min(edited, end), min(stop, end)):
            block = self._edited(low, high) if is_edited else self._plain(low, high)
            output[:, low - start : high - start] = block
        return output

    def _plain(self, low: int, high: int) -> Tensor:
        """Queries `low` to `high - 1` as without an edit."""
        begin = self.ranges[0].start
        parts = [self._part(low, high, slice(low, high), is_causal=True)]
        if low > begin:
            parts.append(self._part(low, high, slice(begin, low), is_causal=False))
        if len(parts) == 1:
            return parts[0][0]
        total = torch.stack([lse for _, lse in parts]).logsumexp(dim=0)
        shares = [(lse - total).exp().unsqueeze(-1) for _, lse in parts]
        return (shares[0] * parts[0][0] + shares[1] * parts[1][0]).to(self.call.value.dtype)

    def _part(self, low: int, high: int, keys: slice, is_causal: bool) -> tuple[Tensor, Tensor]:
        rows = slice(low - self.call.past, high - self.call.past)
        return self.call.part(self.row, rows, keys, is_causal)

    def _edited(self, low: int, high: int) -> Tensor:
        """Queries `low` to `high - 1`, which see the ranges before them whole and their own range causally."""
        seen = [Range(part.start, min(part.stop, low), part.cell) for part in self.ranges if part.start < low]
        own = next(part for part in self.ranges if part.start <= low < part.stop)
        parts = [(part, *self._part(low, high, slice(part.start, part.stop), is_causal=False)) for part in seen]
        tail = Range(low, high, own.cell)
        parts.append((tail, *self._part(low, high, slice(low, high), is_causal=True)))
        total = torch.stack([lse for _, _, lse in parts]).logsumexp(dim=0)
        shares = [(part.cell, (lse - total).exp(), output) for part, output, lse in parts]
        gathered = self._gathered(low, high, total)
        factors = self._factors(low, high, [(cell, share) for cell, share, _ in shares], gathered)
        mixed = sum(  # type: ignore[assignment]
            (factors[..., cell] * share).unsqueeze(-1) * output for cell, share, output in shares
        )
        assert isinstance(mixed, Tensor)
        if gathered is not None:
            change = factors.gather(-1, _like(self.cells, gathered)) - factors.gather(-1, _like(self._base(), gathered))
            mixed = mixed + (change * gathered) @ self._of_heads(self.call.value).to(gathered)
        return self._mended(low, high, mixed.to(self.call.value.dtype), factors, shares)

    def _mended(self, low: int, high: int, output: Tensor, factors: Tensor, shares: Any) -> Tensor:
        """Rows in which a difference of near equals was magnified, computed explicitly instead."""
        growth = torch.stack([(factors[..., cell] - 1).abs() * share for cell, share, _ in shares]).amax(dim=(0, 1))
        uncounted = [replace(step, tally=Tally()) for step in self.steps]
        for place in torch.nonzero(growth > _MOST_GROWTH).flatten().tolist():
            rows = slice(low + place - self.call.past, low + place - self.call.past + 1)
            output[:, place] = edited_rows(self.call, uncounted, rows)[self.row, :, 0]
        return output

    def _gathered(self, low: int, high: int, total: Tensor) -> Tensor | None:
        """Weights of the gathered keys, `[H, R, n]`, of queries `low` to `high - 1` with LSE `total`."""
        if not self.gathered.shape[-1]:
            return None
        call = self.call
        query = call.query[self.row, :, low - call.past : high - call.past]
        key = self._of_heads(call.key)
        scores = (query @ key.transpose(-1, -2)).to(total.dtype) * call.scaling
        at = torch.arange(low, high, device=query.device).view(1, -1, 1)
        is_seen = self.is_gathered.unsqueeze(1) & (self.gathered.unsqueeze(1) <= at)
        return (scores - total.unsqueeze(-1)).exp().masked_fill(~is_seen, 0.0)

    def _of_heads(self, keys_or_values: Tensor) -> Tensor:
        """Gathered keys or values for each query head, `[H, n, d]`."""
        groups = self.call.query.shape[1] // keys_or_values.shape[1]
        own = keys_or_values[self.row]
        if len(self.gathered) == 1:
            return own[:, self.gathered[0]].repeat_interleave(groups, dim=0)
        heads = torch.arange(len(self.gathered), device=own.device) // groups
        return own[heads.unsqueeze(1), self.gathered]

    def _base(self) -> Tensor:
        """The cell of the range in which each gathered key lies, `[1 or H, n]`."""
        base = torch.zeros_like(self.cells)
        for part in self.ranges:
            base[(self.gathered >= part.start) & (self.gathered < part.stop)] = part.cell
        return base

    def _factors(self, low: int, high: int, shares: Sequence[tuple[int, Tensor]], gathered: Tensor | None) -> Tensor:
        """What the attention to each cell is multiplied by, `[H, R, C]`."""
        sizes = [len(step.method.groups) for step in self.steps]  # type: ignore[attr-defined]
        count = math.prod(sizes)
        mass = torch.stack([shares[0][1] * 0.0] * count, dim=-1)
        for cell, share in shares:
            mass[..., cell] += share
        if gathered is not None:
            moved = one_hot(self.cells, count, mass.dtype) - one_hot(self._base(), count, mass.dtype)
            mass = (mass + gathered @ moved).clamp_(min=0.0)  # a difference of near equals may fall below 0
        factors = torch.ones_like(mass)
        at = torch.arange(low, high, device=mass.device)
        for number, step in enumerate(self.steps):
            groups = torch.arange(count, device=mass.device) // math.prod(sizes[number + 1 :])
            columns = one_hot(groups % sizes[number], sizes[number], mass.dtype)
            edits = (at >= step.first_row[self.row]).unsqueeze(0)
            by_cell = _factors(step, (mass * factors) @ columns, edits) @ columns.T
            factors = factors * by_cell
        return factors


def _like(cells: Tensor, gathered: Tensor) -> Tensor:
    return cells.long().unsqueeze(1).expand_as(gathered)


def _cells(steps: Sequence[Step], row: int) -> Tensor:
    """The cell of each key of a prompt, `[1 or H, K]`."""
    cells = torch.zeros(1, 1, dtype=torch.int16, device=steps[0].labels.device)  # type: ignore[union-attr]
    for step in steps:
        assert step.labels is not None and isinstance(step.method, KeyGroups)
        cells = cells * len(step.method.groups) + step.labels[row]
    return cells


def _ranges(cells: Tensor, spans: Sequence[tuple[int, int]]) -> list[Range]:
    """Spans with the commonest cell of each; neighbours with the same one are joined."""
    commonest = [int(cells[:, start:stop].flatten().mode().values) for start, stop in spans]
    ranges: list[Range] = []
    for (start, stop), cell in zip(spans, commonest, strict=True):
        if ranges and ranges[-1].cell == cell:
            start = ranges.pop().start
        ranges.append(Range(start, stop, cell))
    return ranges


def _blocks(ranges: Sequence[Range], start: int, edited: int, stop: int) -> list[tuple[int, int, bool]]:
    """Queries cut where editing begins and, from there, where ranges do: `(low, high, is_edited)`."""
    blocks = [(start, edited, False)] if edited > start else []
    cuts = [edited, *(part.start for part in ranges if edited < part.start < stop), stop]
    return blocks + [(low, high, True) for low, high in pairwise(cuts) if high > low]

"""Edited attention of a prompt without storing weights: its keys cut into ranges, put together by log-sum-exps.

Keys of a prompt are cut into ranges of neighbours that are in one group; fused kernels give each range's output and
log-sum-exp, and the few keys that stick out of their range (sinks) are gathered and computed explicitly. With L_r the
log-sum-exp of range r, L that of the row, and a_j the weight of a gathered key,

    out = sum_r c[base(r)] e^(L_r - L) o_r + sum_j (c[label(j)] - c[base(r(j))]) a_j v_j

where c are the coefficients of the groups. Every pair of query and key is computed once, as without an edit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from llava_som.attention.base import KeyGroups, one_hot
from llava_som.attention.call import LayerCall
from llava_som.attention.explicit_rows import Step, edited_rows, factors_of
from llava_som.attention.stats import Tally

_MOST_GATHERED = 256
_MOST_RANGES = 16
_MOST_GROWTH = 8.0  # of a range's rounding error; rows above are computed explicitly


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
        bases: the cells of the ranges in which they lie, `[1 or H, n]`.
    """

    call: LayerCall
    steps: Sequence[Step]
    row: int
    ranges: Sequence[Range]
    first: int
    gathered: Tensor
    is_gathered: Tensor
    cells: Tensor
    bases: Tensor

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
        base = torch.zeros_like(cells[:1])
        inside = torch.zeros_like(base, dtype=torch.bool)
        for part in ranges:
            base[:, part.start : part.stop] = part.cell
            inside[:, part.start : part.stop] = True
        sticks_out = (cells != base) & inside
        most = int(sticks_out.sum(dim=-1).max())
        if most > _MOST_GATHERED:
            return None
        is_gathered, gathered = sticks_out.to(torch.uint8).topk(most, dim=-1)
        return cls(
            call,
            steps,
            row,
            ranges,
            min(int(step.first_row[row]) for step in steps),
            gathered,
            is_gathered.bool(),
            cells.gather(-1, gathered).long(),
            base.expand_as(cells).gather(-1, gathered).long(),
        )

    def run(self) -> Tensor:
        """Edited attention of the prompt's queries, `[H, Q, dv]`; 0 for padding."""
        call = self.call
        start, stop = call.past, call.past + call.query.shape[2]
        begin, end = self.ranges[0].start, self.ranges[-1].stop
        edited = max(self.first, start, begin)
        output = call.value.new_zeros(stop - start, call.query.shape[1], call.value.shape[-1])
        output = output.transpose(0, 1)  # laid out as the decoder wants it
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
        parts.append((Range(low, high, own.cell), *self._part(low, high, slice(low, high), is_causal=True)))
        total = torch.stack([lse for _, _, lse in parts]).logsumexp(dim=0)
        shares = [(part.cell, (lse - total).exp()) for part, _, lse in parts]
        gathered = self._gathered(low, high, total)
        factors = self._factors(low, high, shares, gathered)
        mixed = torch.zeros(*total.shape, self.call.value.shape[-1], dtype=total.dtype, device=total.device)
        for cell, share in shares:
            _, output, _ = parts.pop(0)  # is large, and not needed any more
            mixed.addcmul_((factors[..., cell] * share).unsqueeze(-1), output.to(total.dtype))
        if gathered is not None:
            heads, weights = gathered
            given, base = (
                factors[heads].gather(-1, _by_row(_own(c, heads), weights)) for c in (self.cells, self.bases)
            )
            mixed[heads] += ((given - base) * weights) @ self._of_heads(self.call.value, heads).to(weights)
        return self._mended(low, mixed.to(self.call.value.dtype), factors, shares)

    def _mended(self, low: int, output: Tensor, factors: Tensor, shares: Sequence[tuple[int, Tensor]]) -> Tensor:
        """Rows in which a difference of near equals was magnified, computed explicitly instead."""
        growth = torch.stack([(factors[..., cell] - 1).abs() * share for cell, share in shares]).amax(dim=(0, 1))
        uncounted = [replace(step, tally=Tally()) for step in self.steps]
        for place in torch.nonzero(growth > _MOST_GROWTH).flatten().tolist():
            rows = slice(low + place - self.call.past, low + place - self.call.past + 1)
            output[:, place] = edited_rows(self.call, uncounted, rows)[self.row, :, 0]
        return output

    def _gathered(self, low: int, high: int, total: Tensor) -> tuple[Tensor, Tensor] | None:
        """Which heads have gathered keys, and the weights of these, `[heads, R, n]`, of queries `low` to `high - 1`."""
        count, kept = len(total), self.is_gathered
        heads = torch.arange(count, device=total.device)
        if len(kept) == count:
            heads = heads[kept.any(dim=-1)]
        if not kept.shape[-1]:
            return None
        query = self.call.query[self.row, heads, low - self.call.past : high - self.call.past]
        key = self._of_heads(self.call.key, heads)
        scores = (query @ key.transpose(-1, -2)).to(total.dtype) * self.call.scaling
        at = torch.arange(low, high, device=query.device).view(1, -1, 1)
        is_seen = _own(kept, heads).unsqueeze(1) & (_own(self.gathered, heads).unsqueeze(1) <= at)
        return heads, (scores - total[heads].unsqueeze(-1)).exp().masked_fill(~is_seen, 0.0)

    def _of_heads(self, keys_or_values: Tensor, heads: Tensor) -> Tensor:
        """Gathered keys or values for some query heads, `[heads, n, d]`."""
        groups = self.call.query.shape[1] // keys_or_values.shape[1]
        return keys_or_values[self.row][(heads // groups).unsqueeze(1), _own(self.gathered, heads)]

    def _factors(
        self, low: int, high: int, shares: Sequence[tuple[int, Tensor]], gathered: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """What the attention to each cell is multiplied by, `[H, R, C]`."""
        sizes = [len(step.method.groups) for step in self.steps]  # type: ignore[attr-defined]
        count = math.prod(sizes)
        mass = shares[0][1].new_zeros(*shares[0][1].shape, count)
        for cell, share in shares:
            mass[..., cell] += share
        if gathered is not None:
            heads, weights = gathered
            own, base = (one_hot(_own(cells, heads), count, mass.dtype) for cells in (self.cells, self.bases))
            mass[heads] += weights @ (own - base)
            mass.clamp_(min=0.0)  # a difference of near equals may fall below 0
        factors = torch.ones_like(mass)
        at = torch.arange(low, high, device=mass.device)
        for number, step in enumerate(self.steps):
            groups = torch.arange(count, device=mass.device) // math.prod(sizes[number + 1 :])
            columns = one_hot(groups % sizes[number], sizes[number], mass.dtype)
            edits = (at >= step.first_row[self.row]).unsqueeze(0)
            factors = factors * (factors_of(step, (mass * factors) @ columns, edits) @ columns.T)
        return factors


def _own(by_head: Tensor, heads: Tensor) -> Tensor:
    """`[1 or H, n]` for some heads, `[1 or heads, n]`."""
    return by_head if len(by_head) == 1 else by_head[heads]


def _by_row(cells: Tensor, weights: Tensor) -> Tensor:
    """Cells `[1 or heads, n]` for every row of weights `[heads, R, n]`."""
    return cells.unsqueeze(1).expand_as(weights)


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

"""The same documents answered twice: each score's change, with the interval of the difference between the pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eval.intervals import bootstrap_interval
from eval.metrics.corpus import is_counted, measure_of, unit_counts
from eval.results import Measured, PairedDifference, mean_scale, measured


def score_differences(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], seed: int = 0
) -> list[PairedDifference]:
    """The change of every score between two runs of lmms-eval on the same documents.

    Documents are resampled together with both of their answers. A score that is neither a mean over documents nor made
    of counts has no interval, nor has one of which each run has other documents.

    Args:
        before: what `simple_evaluate` returned, set of tasks by set of tasks.
        after: the same of the other run.
        seed: of the resampling.
    """
    old = {(one.task, one.label): one for one in _all(before)}
    pairs = [(old[key], new) for new in _all(after) if (key := (new.task, new.label)) in old]
    return [_difference(first, second, seed) for first, second in pairs]


def _all(raws: Sequence[dict[str, Any]]) -> Iterator[Measured]:
    for raw in raws:
        yield from measured(raw)


def _difference(before: Measured, after: Measured, seed: int) -> PairedDifference:
    bounds = None
    if before.documents == after.documents:
        bounds = _counted_bounds(before, after, seed) or _mean_bounds(before, after, seed)
    low, high = bounds or (None, None)
    change = after.value - before.value
    return PairedDifference(after.task, after.label, before.value, after.value, change, low, high, len(after.items))


def _counted_bounds(before: Measured, after: Measured, seed: int) -> tuple[float, float] | None:
    """Of scores made of counts that are added up: both runs' counts of a unit are drawn together."""
    items = [*before.items, *after.items]
    if not items or not all(map(is_counted, items)):
        return None
    first, second = unit_counts(before.items), unit_counts(after.items)
    if first.shape != second.shape:
        return None
    measure, width = measure_of(items), first.shape[1]

    def change(sums: np.ndarray) -> np.ndarray:
        return measure(sums[:, width:]) - measure(sums[:, :width])

    return bootstrap_interval(np.concatenate([first, second], axis=1), seed, change)


def _mean_bounds(before: Measured, after: Measured, seed: int) -> tuple[float, float] | None:
    """Of scores that are the mean over documents, or a hundred times that."""
    scale = mean_scale(before, after)
    if scale is None:
        return None
    pairs = zip(before.numbers, after.numbers, strict=True)
    return bootstrap_interval([(new - old) * scale for old, new in pairs], seed)

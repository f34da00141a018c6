"""Percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13): documents are resampled, in blocks.

A bootstrap sees only the spread in its sample: when every document scores the same, the interval has no width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
_INDICES_AT_ONCE = 4_000_000


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of the mean of `values`, one per document; None below two documents, which have no spread."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        return None
    rng = np.random.default_rng(seed)
    block = max(1, _INDICES_AT_ONCE // sample.size)
    means = [
        sample[rng.integers(0, sample.size, (min(block, RESAMPLES - start), sample.size))].mean(axis=1)
        for start in range(0, RESAMPLES, block)
    ]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def standard_error_interval(value: float, standard_error: float) -> tuple[float, float]:
    """The 95 % normal interval around a score of which only the standard error is known."""
    return value - 1.96 * standard_error, value + 1.96 * standard_error

"""Percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13): documents are resampled, in blocks.

A bootstrap sees only the spread in its sample: when every document scores the same, the interval has no width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
_NUMBERS_AT_ONCE = 4_000_000


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, seed: int = 0, measure: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[float, float] | None:
    """The 95 % interval of the mean of `values`, or of another function of their sum.

    Args:
        values: one number per document, or a row of counts per document, [documents, counts].
        seed: of the resampling.
        measure: summed counts [resamples, counts] to scores [resamples]; default: the mean of the first count.

    Returns:
        None below two documents, which have no spread.
    """
    documents = len(values)
    if documents < 2:
        return None
    sample = np.asarray(values, dtype=np.float64).reshape(documents, -1)
    rng = np.random.default_rng(seed)
    block = max(1, _NUMBERS_AT_ONCE // sample.size)
    sums = [
        sample[rng.integers(0, documents, (min(block, RESAMPLES - start), documents))].sum(axis=1)
        for start in range(0, RESAMPLES, block)
    ]
    scores = measure(np.concatenate(sums)) if measure else np.concatenate(sums)[:, 0] / documents
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(scores, [tail, 100 - tail])
    return float(low), float(high)


def standard_error_interval(value: float, standard_error: float) -> tuple[float, float]:
    """The 95 % normal interval around a score of which only the standard error is known."""
    return value - 1.96 * standard_error, value + 1.96 * standard_error

"""Scores that are no mean over documents: functions of counts that are added up over all of them first.

A task logs such a metric of one document as `counted(...)` and names `corpus_value` as its aggregation. The interval of
the report comes from the same counts: documents are resampled and the function is applied to the new sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llava_som.registry import closest_match_message

ORDERS = 4  # of n-grams in BLEU and CIDEr

Measure = Callable[[np.ndarray], np.ndarray]


def counted(measure: str, counts: Sequence[float], unit: str = "") -> dict[str, Any]:
    """What a task logs for one document: its counts, and what is made of their sum.

    Args:
        measure: a name in `MEASURES`.
        counts: as the measure expects them.
        unit: rows of one unit (all keys of one form) are resampled together; default: each row by itself.
    """
    return {"measure": measure, "counts": [float(count) for count in counts], "unit": unit}


def is_counted(item: Any) -> bool:
    """Whether a logged value was made by `counted`."""
    return isinstance(item, dict) and item.keys() == {"measure", "counts", "unit"}


def corpus_value(items: Sequence[dict[str, Any]]) -> float:
    """The score of the documents together; lmms-eval calls it with everything `counted`."""
    return float(measure_of(items)(unit_counts(items).sum(axis=0)))


def unit_counts(items: Sequence[dict[str, Any]]) -> np.ndarray:
    """Counts of every unit, [units, counts]."""
    units: dict[object, np.ndarray] = {}
    for row, item in enumerate(items):
        unit = item["unit"] or row
        units[unit] = units.get(unit, 0) + np.asarray(item["counts"])
    return np.stack(list(units.values()))


def measure_of(items: Sequence[dict[str, Any]]) -> Measure:
    """The function of summed counts, [..., counts] to [...], that the items name."""
    name = items[0]["measure"]
    if name not in MEASURES:
        raise ValueError(closest_match_message("measure", name, MEASURES))
    return MEASURES[name]


def _f1(sums: np.ndarray) -> np.ndarray:
    """From right, predicted and true values (see `key_values.match_counts`)."""
    right, predicted, true = np.moveaxis(sums, -1, 0)
    return _ratio(2 * right, predicted + true)


def _mean_of_groups(sums: np.ndarray) -> np.ndarray:
    """From the sum of scores and the number of documents of every group; groups without any are left out."""
    totals, sizes = sums[..., 0::2], sums[..., 1::2]
    return _ratio(_ratio(totals, sizes).sum(axis=-1), (sizes > 0).sum(axis=-1))


def _bleu(order: int) -> Measure:
    """Corpus BLEU up to an n-gram order (Papineni et al., ACL 2002) from `captions.bleu_counts`."""

    def measure(sums: np.ndarray) -> np.ndarray:
        precisions = _ratio(sums[..., :order], sums[..., ORDERS : ORDERS + order])
        said, true = sums[..., -2], sums[..., -1]
        brevity = np.exp(np.minimum(0.0, 1 - _ratio(true, np.maximum(said, 1))))
        return precisions.prod(axis=-1) ** (1 / order) * brevity

    return measure


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)


MEASURES: dict[str, Measure] = {
    "f1": _f1,
    "mean_of_groups": _mean_of_groups,
    **{f"bleu{order}": _bleu(order) for order in range(1, ORDERS + 1)},
}
"""What can be made of summed counts, by name."""

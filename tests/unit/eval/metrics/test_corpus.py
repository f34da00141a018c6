import numpy as np
import pytest

from eval.intervals import bootstrap_interval
from eval.metrics.corpus import MEASURES, corpus_value, counted, measure_of, unit_counts


def test_the_mean_of_groups_weighs_groups_alike_and_leaves_empty_ones_out():
    items = [
        counted("mean_of_groups", counts) for counts in ([1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0.2, 1, 0, 0])
    ]
    assert corpus_value(items) == pytest.approx((1 + 0.2) / 2)


def test_rows_of_one_unit_are_added_up_and_others_are_not():
    items = [counted("f1", [1, 1, 1], "a"), counted("f1", [0, 1, 1], "b"), counted("f1", [0, 0, 1], "a")]
    assert unit_counts(items).tolist() == [[1, 1, 2], [0, 1, 1]]
    assert len(unit_counts([counted("f1", [1, 1, 1])] * 3)) == 3


def test_an_unknown_measure_names_the_closest():
    with pytest.raises(ValueError, match="Did you mean 'f1'"):
        measure_of([counted("F1", [1])])


@pytest.mark.parametrize(("measure", "counts"), [("f1", 3), ("mean_of_groups", 8), ("bleu4", 10)])
def test_measures_work_on_many_sums_at_once_and_on_nothing(measure, counts):
    sums = np.random.default_rng(0).integers(1, 9, (5, counts)).astype(float)
    assert MEASURES[measure](sums) == pytest.approx([float(MEASURES[measure](row)) for row in sums])
    assert MEASURES[measure](np.zeros(counts)) == 0


def test_the_interval_of_f1_is_the_spread_of_resampled_documents():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 6, 200)
    counts = np.stack([right, np.full(200, 5), np.full(200, 5)], axis=1)
    low, high = bootstrap_interval(counts, measure=MEASURES["f1"])
    mean_low, mean_high = bootstrap_interval(right / 5)  # equal denominators: F1 is the mean share
    assert (low, high) == pytest.approx((mean_low, mean_high))
    assert low < MEASURES["f1"](counts.sum(axis=0)) < high

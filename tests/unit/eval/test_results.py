import numpy as np
import pytest

from eval.intervals import bootstrap_interval
from eval.metrics.corpus import counted
from eval.results import Results, Sample, Score, paired_differences, read_lmms_eval


def raw_run(values, metric="accuracy", aggregate=None, stderr="N/A", task="t", filters=("none",), **config):
    mean = float(np.mean([value["score"] if isinstance(value, dict) else value for value in values]))
    entry = {"alias": task, "samples": len(values)}
    for name in filters:
        entry[f"{metric},{name}"] = mean if aggregate is None else aggregate
        entry[f"{metric}_stderr,{name}"] = stderr
        entry[f"{metric}_stderr_clt,{name}"] = 0.5
    logged = [
        {"doc_id": number, "target": f"r{number}", "filtered_resps": [f"a{number}"], metric: value}
        for number, value in enumerate(values)
    ]
    return {
        "results": {task: entry},
        "samples": {task: logged * len(filters)},
        "configs": {task: {"metric_list": [{"metric": metric}]} | config},
        "higher_is_better": {task: {metric: True}},
    }


def run_of(values, task="t", targets=None):
    samples = [
        Sample(task, number, (targets or {}).get(number, "r"), "a", {"accuracy": value})
        for number, value in enumerate(values)
    ]
    return Results([], samples)


def test_bootstrap_agrees_with_the_normal_interval_and_with_itself():
    values = np.random.default_rng(1).normal(0.6, 0.2, 400)
    low, high = bootstrap_interval(values, seed=3)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.004)
    assert (low, high) == bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_bootstrap_of_many_documents_runs_in_blocks(monkeypatch):
    whole = bootstrap_interval(np.arange(50.0))
    monkeypatch.setattr("eval.intervals._NUMBERS_AT_ONCE", 170)
    assert bootstrap_interval(np.arange(50.0)) == whole


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_document_has_no_interval(values):
    assert bootstrap_interval(values) is None


def test_a_mean_of_numbers_is_bootstrapped():
    (score,), samples = read_lmms_eval(raw_run([1.0, 0.0, 1.0, 1.0]))
    assert (score.value, score.interval, score.n, score.higher_is_better) == (0.75, "bootstrap", 4, True)
    assert score.low < 0.75 <= score.high
    assert samples[1] == Sample("t", 1, "r1", "a1", {"accuracy": 0.0})


def test_percentages_and_scores_in_mappings_are_bootstrapped():
    values = [{"score": value, "question_id": 1} for value in (1.0, 0.0, 1.0, 1.0)]
    (score,), samples = read_lmms_eval(raw_run(values, aggregate=75.0))
    assert score.interval == "bootstrap" and 0 <= score.low < 75 <= score.high <= 100
    assert samples[1].scores == {"accuracy": 0.0}


def test_another_aggregate_takes_the_standard_error_of_lmms_eval():
    (score,), _ = read_lmms_eval(raw_run([1.0, 0.0, 1.0], aggregate=0.3, stderr=0.1))
    assert (score.low, score.high) == pytest.approx((0.3 - 0.196, 0.3 + 0.196))
    assert score.interval == "standard error"


def test_without_either_the_interval_is_unknown():
    (score,), _ = read_lmms_eval(raw_run([1.0, 0.0, 1.0], aggregate=0.3))
    assert (score.low, score.high, score.interval) == (None, None, "none")


def test_each_filter_has_its_own_documents_whatever_the_rank():
    raw = raw_run([1.0, 0.0], filters=("strict", "flexible"))
    strict, flexible = raw["samples"]["t"][:2], [entry | {"accuracy": 1.0} for entry in raw["samples"]["t"][:2]]
    raw["samples"]["t"] = [strict[1], flexible[1], strict[0], flexible[0]]  # two ranks, one document each
    raw["results"]["t"]["accuracy,flexible"] = 1.0
    scores, samples = read_lmms_eval(raw)
    assert [(score.metric, score.n) for score in scores] == [("accuracy (strict)", 2), ("accuracy (flexible)", 2)]
    assert [score.interval for score in scores] == ["bootstrap", "bootstrap"]
    assert [(sample.doc_id, sample.scores["accuracy"]) for sample in samples] == [(0, 1.0), (1, 0.0)]


def test_a_metric_of_some_documents_is_counted_over_those():
    raw = raw_run([1.0, 0.0, 1.0, 1.0])
    for entry in raw["samples"]["t"][2:]:
        del entry["accuracy"]
    raw["results"]["t"]["accuracy,none"] = 0.5
    (score,), samples = read_lmms_eval(raw)
    assert (score.n, score.interval, score.low, score.high) == (2, "bootstrap", 0.0, 1.0)
    assert samples[3].scores == {}


def test_metrics_come_in_the_order_of_the_task_file():
    raw = raw_run([1.0, 0.0], metric_list=[{"metric": "overall"}, {"metric": "accuracy"}])
    raw["results"]["t"]["overall,none"] = 0.5
    assert [score.metric for score in read_lmms_eval(raw)[0]] == ["overall", "accuracy"]


def test_counts_are_bootstrapped_by_unit_and_are_no_score_of_a_document():
    counts = [(1, 1, 1), (0, 1, 1)] * 10
    items = [counted("f1", row, unit=f"document {number // 2}") for number, row in enumerate(counts)]
    raw = raw_run([0.0] * 20, aggregate=0.5)
    for entry, item in zip(raw["samples"]["t"], items, strict=True):
        entry["accuracy"] = item
    (score,), samples = read_lmms_eval(raw)
    assert (score.interval, score.low, score.high) == ("bootstrap", 0.5, 0.5)  # every document has half of its values
    assert samples[0].scores == {}


def test_a_run_can_be_saved_and_read_back(tmp_path):
    scores, samples = read_lmms_eval(raw_run([1.0, 0.0]))
    results = Results(scores, samples, {"model": "m", "seconds": 1.5})
    results.save(tmp_path)
    assert Results.load(tmp_path) == results


def test_an_unknown_score_and_a_folder_without_a_run_say_so(tmp_path):
    results = Results([Score("pope", "accuracy", 0.5, None, None, "none", 2, True)], [])
    with pytest.raises(ValueError, match="Did you mean 'pope/accuracy'"):
        results.score("pope", "acuracy")
    with pytest.raises(ValueError, match=r"holds no report\.json"):
        Results.load(tmp_path)


def test_paired_difference_is_narrower_than_the_runs_themselves():
    before = np.random.default_rng(0).uniform(size=100)
    (change,) = paired_differences(run_of(before), run_of(before + 0.1))
    assert change.difference == pytest.approx(0.1) == pytest.approx(change.after - change.before)
    assert change.n == 100 and change.high - change.low < 1e-9


def test_only_shared_documents_are_compared():
    (change,) = paired_differences(run_of([0.0, 0.0, 1.0]), run_of([1.0, 1.0]))
    assert (change.n, change.difference) == (2, 1.0)


def test_runs_on_other_data_are_not_compared():
    with pytest.raises(ValueError, match="share no document"):
        paired_differences(run_of([1.0]), run_of([1.0], task="u"))
    with pytest.raises(ValueError, match="document 1: its reference differs"):
        paired_differences(run_of([1.0, 1.0]), run_of([1.0, 1.0], targets={1: "other"}))

import shlex

import numpy as np
import pytest

from eval.config import EvalConfig
from eval.effect import Effect, LayerEffect
from eval.intervals import bootstrap_interval
from eval.metrics.corpus import counted
from eval.paired import score_differences
from eval.report import markdown, web_page
from eval.results import Paired, PairedDifference, Results, Sample, Score
from eval.run import _command
from llava_som.config_file import parse_options, read_options


def raw_run(values, aggregate, metric="accuracy"):
    logged = [
        {"doc_id": number, "target": "r", "filtered_resps": ["a"], metric: value} for number, value in enumerate(values)
    ]
    return {
        "results": {"t": {f"{metric},none": aggregate}},
        "samples": {"t": logged},
        "configs": {"t": {"metric_list": [{"metric": metric}]}},
        "higher_is_better": {"t": {metric: True}},
    }


def test_a_mean_in_percent_is_compared_in_percent():
    old, new = [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]
    (change,) = score_differences([raw_run(old, 50.0)], [raw_run(new, 75.0)], seed=3)
    low, high = bootstrap_interval([0.0, 100.0, 0.0, 0.0], seed=3)
    assert change == PairedDifference("t", "accuracy", 50.0, 75.0, 25.0, low, high, 4)


def test_counts_of_a_unit_are_drawn_together_with_those_of_the_other_run():
    """Both runs are right on half of the values of each document: no resampling can make them differ."""
    halves = [counted("f1", (number % 2, 1, 1), unit=f"form {number // 2}") for number in range(12)]
    others = [counted("f1", (1 - number % 2, 1, 1), unit=f"form {number // 2}") for number in range(12)]
    (change,) = score_differences([raw_run(halves, 0.5)], [raw_run(others, 0.5)])
    assert (change.difference, change.low, change.high, change.n) == (0.0, 0.0, 0.0, 12)
    better = [counted("f1", (1, 1, 1), unit=f"form {number // 2}") for number in range(12)]
    (change,) = score_differences([raw_run(halves, 0.5)], [raw_run(better, 1.0)])
    assert (change.difference, change.low, change.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("old", "new"), [([1.0, 0.0], [1.0, 1.0]), ([1.0, 0.0], [1.0, 1.0, 1.0]), ([], [])])
def test_a_score_that_is_no_mean_has_a_change_without_interval(old, new):
    (change,) = score_differences([raw_run(old, 0.3)], [raw_run(new, 0.4)])
    assert change.difference == pytest.approx(0.1) and (change.low, change.high) == (None, None)


def test_the_report_holds_both_runs_the_change_and_where_it_fired():
    def score(value):
        return Score("pope", "accuracy", value, value - 0.1, value + 0.1, "bootstrap", 2, True)

    layers = [LayerEffect("VAR", 0, 40, 10, 2.5, {"sinks in image": 3}), LayerEffect("VAR", 1, 40, 0, 0.0, {})]
    paired = Paired(
        [score(0.5)],
        [Sample("pope", 0, "yes", "<no>", {"accuracy": 0.0}), Sample("pope", 1, "yes", "yes", {"accuracy": 1.0})],
        [PairedDifference("pope", "accuracy", 0.5, 1.0, 0.5, 0.0, 1.0, 2)],
        Effect("VAR", {"VAR": "rho=0.5"}, 2, layers, ["VAR <fired>."]),
    )
    samples = [Sample("pope", number, "yes", "yes", {"accuracy": 1.0}) for number in range(2)]
    results = Results([score(1.0)], samples, {"model": "ours", "decoding": {"pope": "greedy"}}, paired)
    text, page = markdown(results), web_page(results)
    assert text.startswith("# Evaluation of ours with VAR\n")
    assert "1 of 2 answers differ." in text and "| pope | accuracy | 0.5 | 1 | +0.5 | 0 to 1 | 2 |" in text
    assert "| pope | accuracy ↑ | 0.5 |" in text and "| pope | accuracy ↑ | 1 |" in text
    assert "| VAR | all | 80 | 12.5% | 0.250 |  |" in text and "| VAR | 0 | 40 | 25.0% | 0.250 | 3 |" in text
    assert "<td>&lt;no&gt;<td>yes<td>accuracy 0 → 1\n" in page and "<td>yes<td>yes<td>accuracy 1\n" in page
    assert "<th>answer without" in page and "VAR &lt;fired&gt;." in page
    since = markdown(results, paired.differences)
    assert "## Change since the run of baseline=, document by document" in since


@pytest.mark.parametrize("given", ["var", {"type": "var", "rho": 0.5}, [{"type": "var", "sink_dims": [3, 11]}, "act"]])
def test_the_command_in_the_report_repeats_the_run(given):
    config = EvalConfig(tasks=["pope", "mme"], model="my model", limit=3, intervention=given)
    words = shlex.split(_command(config))
    assert words[:3] == ["python", "-m", "eval"]
    assert parse_options(EvalConfig, read_options(words[3:])) == config


def test_the_difference_has_the_interval_of_the_pairs_not_of_the_runs():
    old = np.random.default_rng(0).uniform(size=100)
    new = old + 0.1
    (change,) = score_differences([raw_run(list(old), old.mean())], [raw_run(list(new), new.mean())])
    assert change.high - change.low < 1e-9 < change.difference

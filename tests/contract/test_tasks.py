"""Every task in eval/tasks, through lmms-eval, on the data set its folder's `example` module writes."""

from __future__ import annotations

import importlib
from functools import cache

import pytest
import yaml

from eval.config import EvalConfig
from eval.run import evaluate
from eval.task_index import OUR_TASKS, task_settings
from tests.scripted import scripted_model

BEST = {"cider": 10.0}  # the other scores are shares: 1 is best


def our_tasks():
    """Names and folders of the YAML files that are tasks; those of groups have a list of tasks."""
    settings = {file: yaml.load(file.read_text(), yaml.BaseLoader) for file in sorted(OUR_TASKS.rglob("*.yaml"))}
    return {said["task"]: file.parent for file, said in settings.items() if isinstance(said["task"], str)}


TASKS = our_tasks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@cache
def measured(task, folder):
    """The results for empty answers and for the task's own references."""
    package = ".".join(["eval.tasks", *TASKS[task].relative_to(OUR_TASKS).parts])
    config = EvalConfig(tasks=task, data=str(importlib.import_module(f"{package}.example").write(folder / task)))
    empty = evaluate(config, scripted_model(lambda row, number: ""))
    references = [sample.target for sample in empty.samples]
    return empty, evaluate(config, scripted_model(lambda row, number: references[number]))


@pytest.mark.parametrize("task", TASKS)
def test_perfect_answers_get_the_best_score(task, folder):
    for score in measured(task, folder)[1].scores:
        best = BEST.get(score.metric, 1.0) if score.higher_is_better else 0.0
        assert score.value == pytest.approx(best, abs=1e-6), score


@pytest.mark.parametrize("task", TASKS)
def test_empty_answers_get_the_worst_score(task, folder):
    worst = [score.value for score in measured(task, folder)[0].scores if score.higher_is_better]
    assert worst and worst == pytest.approx([0.0] * len(worst), abs=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_is_measured_and_has_an_interval(task, folder):
    from lmms_eval.tasks import TaskManager

    index = TaskManager(include_path=str(OUR_TASKS), include_defaults=False)
    stated = task_settings(index, task)["metric_list"]
    scores = measured(task, folder)[1].scores
    assert {score.metric for score in scores} == {metric["metric"] for metric in stated}
    assert all(score.interval == "bootstrap" or score.n == 1 for score in scores)

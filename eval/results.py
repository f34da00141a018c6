"""What a run measured: scores with intervals, the answer to every document, the circumstances."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.intervals import bootstrap_interval, standard_error_interval
from eval.metrics.corpus import is_counted, measure_of, unit_counts
from llava_som.registry import closest_match_message

SAMPLES_FILE = "samples.jsonl"
REPORT_FILE = "report.json"


@dataclass(frozen=True)
class Score:
    """One metric of one task.

    Attributes:
        low, high: the 95 % interval, None when lmms-eval gives nothing to compute it from.
        interval: "bootstrap" over documents, "standard error" as stated by lmms-eval, or "none".
        n: documents behind the value; None for the mean of a task group.
    """

    task: str
    metric: str
    value: float
    low: float | None
    high: float | None
    interval: str
    n: int | None
    higher_is_better: bool | None


@dataclass(frozen=True)
class Sample:
    """One document: the reference, the model's answer and each metric that is a number for a single document."""

    task: str
    doc_id: int
    target: str
    answer: str
    scores: dict[str, float]


@dataclass(frozen=True)
class PairedDifference:
    """The mean change of a metric on the documents both runs answered, and its 95 % bootstrap interval."""

    task: str
    metric: str
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Results:
    """Everything one run measured. `run` holds the command, versions, machine, decoding mode and duration."""

    scores: list[Score]
    samples: list[Sample]
    run: dict[str, Any] = field(default_factory=dict)

    def score(self, task: str, metric: str) -> Score:
        """The score of a metric; a ValueError with the closest name when it was not measured."""
        found = {f"{score.task}/{score.metric}": score for score in self.scores}
        name = f"{task}/{metric}"
        if name not in found:
            raise ValueError(closest_match_message("score", name, found))
        return found[name]

    def save(self, folder: str | Path) -> None:
        """Write report.json and samples.jsonl."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        report = {"run": self.run, "scores": [asdict(score) for score in self.scores]}
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        lines = (json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in self.samples)
        (folder / SAMPLES_FILE).write_text("".join(lines), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """Read back what `save` wrote; a ValueError when the folder holds no run."""
        report_file, samples_file = Path(folder) / REPORT_FILE, Path(folder) / SAMPLES_FILE
        if not (report_file.is_file() and samples_file.is_file()):
            raise ValueError(
                f"{folder}: holds no {REPORT_FILE} and {SAMPLES_FILE}. Name the out= folder of an earlier run."
            )
        report = json.loads(report_file.read_text(encoding="utf-8"))
        samples = [Sample(**json.loads(line)) for line in samples_file.read_text(encoding="utf-8").splitlines()]
        return cls([Score(**score) for score in report["scores"]], samples, report["run"])


def read_lmms_eval(raw: dict[str, Any], seed: int = 0) -> tuple[list[Score], list[Sample]]:
    """Scores and samples from the dictionary that lmms-eval's `simple_evaluate` returns."""
    scores: list[Score] = []
    samples: list[Sample] = []
    for task, row in raw["results"].items():
        settings = raw["configs"].get(task, {})
        filters = list(dict.fromkeys(key.split(",")[1] for key, _ in _values(row)))
        # Logged rank after rank and, within a rank, filter after filter: sorted by document the filters alternate.
        logged = sorted(raw.get("samples", {}).get(task, []), key=lambda entry: entry["doc_id"])
        for key, value in sorted(_values(row), key=_place_in(settings)):
            metric, filter_name = key.split(",")
            entries = logged[filters.index(filter_name) :: len(filters)]
            items = [entry[metric] for entry in entries if metric in entry]  # a metric may be of some documents only
            interval = _interval(value, items, settings, row.get(f"{metric}_stderr,{filter_name}"), seed)
            label = metric if len(filters) == 1 else f"{metric} ({filter_name})"
            better = raw["higher_is_better"].get(task, {}).get(metric)
            scores.append(Score(task, label, value, *interval, len(items) or None, better))
        samples += [_sample(task, entry, settings) for entry in logged[:: max(1, len(filters))]]
    return scores, samples


def paired_differences(before: Results, after: Results, seed: int = 0) -> list[PairedDifference]:
    """Each metric's change from `before` to `after`, document by document.

    Raises:
        ValueError: the runs have no document in common, or a document has another reference in each run.
    """
    old = {(sample.task, sample.doc_id): sample for sample in before.samples}
    pairs = [(old[key], sample) for sample in after.samples if (key := (sample.task, sample.doc_id)) in old]
    if not pairs:
        raise ValueError(
            "The two runs share no document, so there is nothing to compare. Run the same tasks on the same data."
        )
    for first, second in pairs:
        if first.target != second.target:
            raise ValueError(
                f"{first.task}, document {first.doc_id}: its reference differs between the runs. Use the same data."
            )
    changes: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for first, second in pairs:
        for metric in first.scores.keys() & second.scores.keys():
            changes.setdefault((first.task, metric), []).append((first.scores[metric], second.scores[metric]))
    return [_difference(task, metric, values, seed) for (task, metric), values in sorted(changes.items())]


def _difference(task: str, metric: str, values: list[tuple[float, float]], seed: int) -> PairedDifference:
    before, after = (math.fsum(column) / len(values) for column in zip(*values, strict=True))
    low, high = bootstrap_interval([new - old for old, new in values], seed) or (None, None)
    return PairedDifference(task, metric, before, after, after - before, low, high, len(values))


def _interval(
    value: float, items: list[Any], task_config: dict[str, Any], stderr: Any, seed: int
) -> tuple[float | None, float | None, str]:
    """Bounds and their origin: the bootstrap if the value comes from what is logged, else lmms-eval's own error."""
    if bounds := _bootstrap(value, items, task_config, seed):
        return *bounds, "bootstrap"
    if _is_number(stderr):
        return *standard_error_interval(value, stderr), "standard error"
    return None, None, "none"


def _bootstrap(value: float, items: list[Any], task_config: dict[str, Any], seed: int) -> tuple[float, float] | None:
    """Bounds for counts that are added up, and for values whose mean is the score; None for anything else."""
    if items and all(map(is_counted, items)):
        return bootstrap_interval(unit_counts(items), seed, measure_of(items))
    documents = [number for item in items if (number := _document_value(item, task_config)) is not None]
    scale = _mean_scale(documents, value) if documents and len(documents) == len(items) else None
    bounds = bootstrap_interval(documents, seed) if scale else None
    return (bounds[0] * scale, bounds[1] * scale) if bounds and scale else None


def _mean_scale(documents: list[float], value: float) -> float | None:
    """The factor from the documents' mean to the value, 1 or (percent) 100; None when it is no mean of theirs."""
    mean = math.fsum(documents) / len(documents)
    return next(
        (scale for scale in (1.0, 100.0) if math.isclose(mean * scale, value, rel_tol=1e-6, abs_tol=1e-9)), None
    )


def _values(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The "metric,filter" entries of a result row that are scores."""
    for key, value in row.items():
        if "," in key and "_stderr" not in key and _is_number(value):
            yield key, float(value)


def _stated_metrics(task_config: dict[str, Any]) -> list[str]:
    """The metrics that a task's YAML lists, in order."""
    names = [metric["metric"] for metric in task_config.get("metric_list") or []]
    return [name for name in names if isinstance(name, str)]


def _place_in(task_config: dict[str, Any]) -> Callable[[tuple[str, float]], int]:
    """A sort key for "metric,filter" entries: the YAML's order, which does not depend on the documents or ranks."""
    places = {name: place for place, name in enumerate(_stated_metrics(task_config))}
    return lambda entry: places.get(entry[0].split(",")[0], len(places))


def _document_value(value: Any, task_config: dict[str, Any]) -> float | None:
    """A metric of one document: tasks log a number, or a mapping that holds it under the task's score_key."""
    if isinstance(value, dict):
        value = value.get(task_config.get("score_key") or "score")
    return float(value) if _is_number(value) else None


def _sample(task: str, entry: dict[str, Any], task_config: dict[str, Any]) -> Sample:
    stated = sorted(set(_stated_metrics(task_config)))
    scores = {name: _document_value(entry.get(name), task_config) for name in stated}
    answer = entry["filtered_resps"][0] if entry["filtered_resps"] else ""
    return Sample(
        task=task,
        doc_id=entry["doc_id"],
        target=str(entry["target"]),
        answer=answer if isinstance(answer, str) else json.dumps(answer, default=str),
        scores={name: value for name, value in scores.items() if value is not None},
    )


def _is_number(value: Any) -> bool:
    """A finite number: numpy's count, truth values and "N/A" do not."""
    return not isinstance(value, bool | str | None) and hasattr(value, "__float__") and math.isfinite(float(value))

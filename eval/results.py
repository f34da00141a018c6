"""What a run measured: scores with intervals, the answer to every document, the circumstances."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.effect import Effect, LayerEffect
from eval.intervals import bootstrap_interval, standard_error_interval
from eval.metrics.corpus import is_counted, measure_of, unit_counts
from llava_som.registry import closest_match_message

SAMPLES_FILE = "samples.jsonl"
REPORT_FILE = "report.json"
PLAIN_SAMPLES_FILE = "samples_without_intervention.jsonl"


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
class Paired:
    """The same tasks on the same model without the intervention.

    Attributes:
        scores, samples: of that run.
        differences: what the intervention changed, for every score.
        effect: what it did in the decoder.
    """

    scores: list[Score]
    samples: list[Sample]
    differences: list[PairedDifference]
    effect: Effect


@dataclass(frozen=True)
class Results:
    """Everything one run measured.

    Attributes:
        scores, samples: with the intervention, where there is one.
        run: command, versions, machine, attention backend, decoding mode and duration.
        paired: the run without the intervention; None where there is no intervention.
    """

    scores: list[Score]
    samples: list[Sample]
    run: dict[str, Any] = field(default_factory=dict)
    paired: Paired | None = None

    def score(self, task: str, metric: str) -> Score:
        """The score of a metric; a ValueError with the closest name when it was not measured."""
        found = {f"{score.task}/{score.metric}": score for score in self.scores}
        name = f"{task}/{metric}"
        if name not in found:
            raise ValueError(closest_match_message("score", name, found))
        return found[name]

    def save(self, folder: str | Path) -> None:
        """Write report.json and samples.jsonl; with an intervention, the samples without it as well."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        report: dict[str, Any] = {"run": self.run, "scores": [asdict(score) for score in self.scores]}
        (folder / PLAIN_SAMPLES_FILE).unlink(missing_ok=True)  # an earlier run's
        if self.paired is not None:
            report["intervention"] = asdict(self.paired.effect)
            report["scores_without_intervention"] = [asdict(score) for score in self.paired.scores]
            report["differences"] = [asdict(difference) for difference in self.paired.differences]
            _write_samples(folder / PLAIN_SAMPLES_FILE, self.paired.samples)
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_samples(folder / SAMPLES_FILE, self.samples)

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """Read back what `save` wrote; a ValueError when the folder holds no run."""
        report_file, samples_file = Path(folder) / REPORT_FILE, Path(folder) / SAMPLES_FILE
        if not (report_file.is_file() and samples_file.is_file()):
            raise ValueError(
                f"{folder}: holds no {REPORT_FILE} and {SAMPLES_FILE}. Name the out= folder of an earlier run."
            )
        report = json.loads(report_file.read_text(encoding="utf-8"))
        paired = None
        if "intervention" in report:
            paired = Paired(
                [Score(**score) for score in report["scores_without_intervention"]],
                _read_samples(Path(folder) / PLAIN_SAMPLES_FILE),
                [PairedDifference(**difference) for difference in report["differences"]],
                _effect(report["intervention"]),
            )
        return cls([Score(**score) for score in report["scores"]], _read_samples(samples_file), report["run"], paired)


@dataclass(frozen=True)
class Measured:
    """One score as lmms-eval states it, with what it was made from.

    Attributes:
        label: the metric, with its filter where there are several.
        items: what was logged for the documents that have the metric.
        documents: which these are.
        settings: of the task.
        stderr: as stated by lmms-eval.
    """

    task: str
    metric: str
    label: str
    value: float
    items: list[Any]
    documents: list[int]
    settings: dict[str, Any]
    stderr: Any

    @property
    def numbers(self) -> list[float]:
        """The items that are numbers, or hold one under the task's score_key."""
        return [number for item in self.items if (number := _document_value(item, self.settings)) is not None]


def measured(raw: dict[str, Any]) -> Iterator[Measured]:
    """Every score in the dictionary that lmms-eval's `simple_evaluate` returns, in the order of the task's YAML."""
    for task, row in raw["results"].items():
        settings = raw["configs"].get(task, {})
        filters = _filters(row)
        logged = _logged(raw, task)
        for key, value in sorted(_values(row), key=_place_in(settings)):
            metric, filter_name = key.split(",")
            entries = logged[filters.index(filter_name) :: len(filters)]
            entries = [entry for entry in entries if metric in entry]  # a metric may be of some documents only
            items, documents = [entry[metric] for entry in entries], [entry["doc_id"] for entry in entries]
            label = metric if len(filters) == 1 else f"{metric} ({filter_name})"
            stderr = row.get(f"{metric}_stderr,{filter_name}")
            yield Measured(task, metric, label, value, items, documents, settings, stderr)


def read_lmms_eval(raw: dict[str, Any], seed: int = 0) -> tuple[list[Score], list[Sample]]:
    """Scores and samples from the dictionary that lmms-eval's `simple_evaluate` returns."""
    scores = [_score(one, raw["higher_is_better"].get(one.task, {}), seed) for one in measured(raw)]
    samples: list[Sample] = []
    for task, row in raw["results"].items():
        kept = _logged(raw, task)[:: max(1, len(_filters(row)))]
        samples += [_sample(task, entry, raw["configs"].get(task, {})) for entry in kept]
    return scores, samples


def _logged(raw: dict[str, Any], task: str) -> list[dict[str, Any]]:
    """What a task logged, sorted by document, where filters alternate: ranks log in turn, and filters within a rank."""
    return sorted(raw.get("samples", {}).get(task, []), key=lambda entry: entry["doc_id"])


def _filters(row: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(key.split(",")[1] for key, _ in _values(row)))


def _score(one: Measured, better: dict[str, bool], seed: int) -> Score:
    interval = _interval(one, seed)
    return Score(one.task, one.label, one.value, *interval, len(one.items) or None, better.get(one.metric))


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


def _interval(one: Measured, seed: int) -> tuple[float | None, float | None, str]:
    """Bounds and their origin: the bootstrap if the value comes from what is logged, else lmms-eval's own error."""
    if bounds := _bootstrap(one, seed):
        return *bounds, "bootstrap"
    if _is_number(one.stderr):
        return *standard_error_interval(one.value, one.stderr), "standard error"
    return None, None, "none"


def _bootstrap(one: Measured, seed: int) -> tuple[float, float] | None:
    """Bounds for counts that are added up, and for values whose mean is the score; None for anything else."""
    if one.items and all(map(is_counted, one.items)):
        return bootstrap_interval(unit_counts(one.items), seed, measure_of(one.items))
    scale = mean_scale(one)
    bounds = bootstrap_interval(one.numbers, seed) if scale else None
    return (bounds[0] * scale, bounds[1] * scale) if bounds and scale else None


def mean_scale(*runs: Measured) -> float | None:
    """The factor from the documents' mean to the value in all runs, 1 or (percent) 100; None when it is no mean."""
    if any(not one.items or len(one.numbers) != len(one.items) for one in runs):
        return None
    means = [math.fsum(one.numbers) / len(one.items) for one in runs]
    for scale in (1.0, 100.0):
        if all(
            math.isclose(mean * scale, one.value, rel_tol=1e-6, abs_tol=1e-9)
            for mean, one in zip(means, runs, strict=True)
        ):
            return scale
    return None


def _write_samples(file: Path, samples: list[Sample]) -> None:
    lines = (json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)
    file.write_text("".join(lines), encoding="utf-8")


def _read_samples(file: Path) -> list[Sample]:
    with file.open(encoding="utf-8") as lines:
        return [Sample(**json.loads(line)) for line in lines]


def _effect(saved: dict[str, Any]) -> Effect:
    return Effect(**(saved | {"layers": [LayerEffect(**layer) for layer in saved["layers"]]}))


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

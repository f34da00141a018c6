"""A run as a person reads it: one Markdown text and one HTML page beside report.json, both from the same tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from eval.effect import Effect, LayerEffect
from eval.results import Paired, PairedDifference, Results, Sample, Score

SHOWN_ANSWERS = 10

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1d2430 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #dde2ea; vertical-align: top }
td { font-variant-numeric: tabular-nums; white-space: pre-wrap; overflow-wrap: anywhere }
td:first-child { overflow-wrap: normal }
th { font-weight: 600; color: #4a5568 }
"""


@dataclass(frozen=True)
class Table:
    """A titled table of texts, with lines of text above it."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()


def write_report(results: Results, folder: str | Path, differences: Sequence[PairedDifference] = ()) -> Path:
    """Write report.json, samples.jsonl, report.md and report.html; returns the page.

    Args:
        results: the run.
        folder: made when absent; files of an earlier run there are replaced.
        differences: the change since another run, from `paired_differences`.
    """
    folder = Path(folder)
    results.save(folder)
    (folder / "report.md").write_text(markdown(results, differences), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(web_page(results, differences), encoding="utf-8")
    return page


def markdown(results: Results, differences: Sequence[PairedDifference] = ()) -> str:
    """The tables as Markdown."""
    parts = [f"# {_title(results)}\n"]
    for table in [*_tables(results, differences), _circumstances(results)]:
        parts += [f"## {table.title}\n", *(f"{note}\n" for note in table.notes)]
        if table.rows:
            parts += [_markdown_row(table.header), _markdown_row(["---"] * len(table.header))]
            parts += [*map(_markdown_row, table.rows), ""]
    return "\n".join(parts)


def web_page(results: Results, differences: Sequence[PairedDifference] = ()) -> str:
    """The tables and the first answers of each task as one self-contained page."""
    tables = [*_tables(results, differences), *_answers(results), _circumstances(results)]
    body = "\n".join(map(_html_table, tables))
    title = html.escape(_title(results))
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>\n<h1>{title}</h1>\n{body}\n"
    )


def _title(results: Results) -> str:
    title = f"Evaluation of {results.run.get('model', 'a model')}"
    return title if results.paired is None else f"{title} with {results.paired.effect.name}"


def _tables(results: Results, differences: Sequence[PairedDifference]) -> list[Table]:
    paired = results.paired
    title = (
        "Change, document by document" if paired is None else "Change since the run of baseline=, document by document"
    )
    changes = [_changes(title, differences)] if differences else []
    if paired is None:
        return [_scores("Scores", results.scores), *changes]
    name = paired.effect.name
    return [
        _changes(f"Change by {name}, document by document", paired.differences, _answers_changed(results, paired)),
        _scores(f"Scores with {name}", results.scores),
        _scores("Scores without intervention", paired.scores),
        _effect(paired.effect),
        *changes,
    ]


def _scores(title: str, scores: Sequence[Score]) -> Table:
    return Table(
        title,
        ("task", "metric", "value", "95 % interval", "from", "documents"),
        [(s.task, _arrow(s), _number(s.value), _range(s.low, s.high), s.interval, str(s.n or "")) for s in scores],
    )


def _changes(title: str, differences: Sequence[PairedDifference], notes: Sequence[str] = ()) -> Table:
    return Table(
        title,
        ("task", "metric", "before", "after", "change", "95 % interval", "documents"),
        [
            (
                d.task,
                d.metric,
                _number(d.before),
                _number(d.after),
                f"{d.difference:+.4g}",
                _range(d.low, d.high),
                str(d.n or ""),
            )
            for d in differences
        ],
        notes,
    )


def _answers_changed(results: Results, paired: Paired) -> list[str]:
    """How many answers are others, which scores alone do not tell."""
    before = {(sample.task, sample.doc_id): sample.answer for sample in paired.samples}
    differ = sum(before.get((sample.task, sample.doc_id)) != sample.answer for sample in results.samples)
    return [f"{differ} of {len(results.samples)} answers differ."]


def _effect(effect: Effect) -> Table:
    """Where the intervention fired."""
    groups = list(dict.fromkeys(group for layer in effect.layers for group in layer.found))
    rows = [
        (
            layer.intervention,
            str(layer.layer),
            f"{layer.looked_at:,}",
            f"{_share(layer.changed, layer.looked_at):.1%}",
            f"{_share(layer.moved, layer.changed):.3f}",
            *(f"{layer.found[group]:,}" if group in layer.found else "" for group in groups),
        )
        for layer in [*_sums(effect.layers), *effect.layers]
    ]
    header = ("intervention", "layer", "rows x heads", "changed", "moved in these", *groups)
    return Table(f"What {effect.name} did in the decoder", header, rows, effect.notes)


def _sums(layers: Sequence[LayerEffect]) -> list[LayerEffect]:
    """All layers of each intervention together; tokens are the same ones in each layer and are not added up."""
    sums = []
    for name, group in groupby(layers, key=lambda layer: layer.intervention):
        of_one = list(group)
        looked_at, changed = sum(layer.looked_at for layer in of_one), sum(layer.changed for layer in of_one)
        sums.append(LayerEffect(name, "all", looked_at, changed, sum(layer.moved for layer in of_one), {}))
    return sums


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _answers(results: Results) -> list[Table]:
    paired = results.paired
    plain = {} if paired is None else {(sample.task, sample.doc_id): sample for sample in paired.samples}
    header = ("answer",) if paired is None else ("answer without", f"answer with {paired.effect.name}")
    tables = []
    for task, group in groupby(results.samples, key=lambda sample: sample.task):
        rows = []
        for sample in list(group)[:SHOWN_ANSWERS]:
            before = plain.get((sample.task, sample.doc_id), sample)
            answers = (sample.answer,) if paired is None else (before.answer, sample.answer)
            rows.append((str(sample.doc_id), sample.target, *answers, _numbers(before, sample)))
        tables.append(Table(f"First answers: {task}", ("document", "reference", *header, "scores"), rows))
    return tables


def _numbers(before: Sample, after: Sample) -> str:
    """The scores of a document, with what they were before where that differs."""
    lines = []
    for metric, value in after.scores.items():
        old = before.scores.get(metric, value)
        lines.append(f"{metric} {_number(value)}" if old == value else f"{metric} {_number(old)} → {_number(value)}")
    return "\n".join(lines)


def _circumstances(results: Results) -> Table:
    rows = []
    for key, value in results.run.items():
        lines = [f"{name}: {item}" for name, item in value.items()] if isinstance(value, dict) else [str(value)]
        rows.append((key, "\n".join(lines)))
    return Table("How it was measured", ("what", "value"), rows)


def _arrow(score: Score) -> str:
    return score.metric + {True: " ↑", False: " ↓", None: ""}[score.higher_is_better]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _range(low: float | None, high: float | None) -> str:
    return "unknown" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}" for cell in table.header)
    rows = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in table.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in table.notes)
    heading = f"<h2>{html.escape(table.title)}</h2>\n{notes}"
    return heading if not table.rows else f"{heading}<table><tr>{head}\n{rows}\n</table>"

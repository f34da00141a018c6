"""A run as a person reads it: one Markdown text and one HTML page beside report.json, both from the same tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from eval.results import PairedDifference, Results, Sample, Score

SHOWN_ANSWERS = 10

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1d2430 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #dde2ea; vertical-align: top }
td { font-variant-numeric: tabular-nums; white-space: pre-wrap; overflow-wrap: anywhere }
th { font-weight: 600; color: #4a5568 }
"""


@dataclass(frozen=True)
class Table:
    """A titled table of texts."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


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
        parts += [f"## {table.title}\n", _markdown_row(table.header), _markdown_row(["---"] * len(table.header))]
        parts += [*map(_markdown_row, table.rows), ""]
    return "\n".join(parts)


def web_page(results: Results, differences: Sequence[PairedDifference] = ()) -> str:
    """The tables and the first answers of each task as one self-contained page."""
    tables = [*_tables(results, differences), *_answers(results.samples), _circumstances(results)]
    body = "\n".join(map(_html_table, tables))
    title = html.escape(_title(results))
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>\n<h1>{title}</h1>\n{body}\n"
    )


def _title(results: Results) -> str:
    return f"Evaluation of {results.run.get('model', 'a model')}"


def _tables(results: Results, differences: Sequence[PairedDifference]) -> list[Table]:
    scores = Table(
        "Scores",
        ("task", "metric", "value", "95 % interval", "from", "documents"),
        [
            (s.task, _arrow(s), _number(s.value), _range(s.low, s.high), s.interval, str(s.n or ""))
            for s in results.scores
        ],
    )
    changes = Table(
        "Change, document by document",
        ("task", "metric", "before", "after", "change", "95 % interval", "documents"),
        [
            (
                d.task,
                d.metric,
                _number(d.before),
                _number(d.after),
                f"{d.difference:+.4g}",
                _range(d.low, d.high),
                str(d.n),
            )
            for d in differences
        ],
    )
    return [scores, changes] if differences else [scores]


def _answers(samples: Sequence[Sample]) -> list[Table]:
    header = ("document", "reference", "answer", "scores")
    tables = []
    for task, group in groupby(samples, key=lambda sample: sample.task):
        rows = [
            (
                str(sample.doc_id),
                sample.target,
                sample.answer,
                "\n".join(f"{k} {_number(v)}" for k, v in sample.scores.items()),
            )
            for sample in list(group)[:SHOWN_ANSWERS]
        ]
        tables.append(Table(f"First answers: {task}", header, rows))
    return tables


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
    return f"<h2>{html.escape(table.title)}</h2>\n<table><tr>{head}\n{rows}\n</table>"

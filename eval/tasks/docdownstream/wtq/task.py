"""What wtq.yaml names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.metrics.denotation import names_all
from eval.metrics.text import one_line
from eval.tasks.docdownstream.due import with_references

if TYPE_CHECKING:
    from datasets import Dataset


def documents(rows: Dataset) -> Dataset:
    """The rows with the values that answer them."""
    return with_references(rows, "WikiTableQuestions")


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 when the answer names the values of the reference, all of them and no other."""
    return {"accuracy": float(names_all(one_line(answers[0]), [ways[0] for ways in row["references"]]))}

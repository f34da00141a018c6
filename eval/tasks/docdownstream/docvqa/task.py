"""What docvqa.yaml names. ANLS as the DUE benchmark computes it: a similarity of exactly one half is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.metrics.anls import anls
from eval.tasks.docdownstream.due import with_references

if TYPE_CHECKING:
    from datasets import Dataset


def documents(rows: Dataset) -> Dataset:
    """The rows with their accepted answers."""
    return with_references(rows, "DocVQA")


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """The similarity to the closest accepted answer."""
    return {"anls": anls(answers[0], row["references"][0])}

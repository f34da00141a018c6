"""What infovqa.yaml names: DocVQA's score on other documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.tasks.docdownstream.docvqa.task import score
from eval.tasks.docdownstream.due import with_references

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["documents", "score"]


def documents(rows: Dataset) -> Dataset:
    """The rows with their accepted answers."""
    return with_references(rows, "InfographicsVQA")

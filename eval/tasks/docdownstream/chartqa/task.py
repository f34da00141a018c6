"""What chartqa.yaml names."""

from __future__ import annotations

from typing import Any

from eval.docowl_jsonl import reference
from eval.metrics.relaxed import relaxed_match
from eval.metrics.text import unstopped


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 for a number within 5 % of the reference or for the same text, else 0."""
    return {"relaxed_accuracy": float(relaxed_match(unstopped(answers[0]), unstopped(reference(row))))}

"""What tabfact.yaml names."""

from __future__ import annotations

from typing import Any

from eval.docowl_jsonl import reference
from eval.metrics.text import folded, unstopped


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 for the verdict of the reference in any case, 0 for anything else, an answer that is no verdict included."""
    return {"accuracy": float(folded(unstopped(answers[0])) == folded(unstopped(reference(row))))}

"""Two forms."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.deepform.task import KEYS
from eval.tasks.docdownstream.example_forms import write_forms


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    return write_forms(folder, "DeepForm", KEYS)

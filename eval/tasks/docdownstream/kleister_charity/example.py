"""Two forms."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_forms import write_forms
from eval.tasks.docdownstream.kleister_charity.task import KEYS


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    return write_forms(folder, "KleisterCharity", KEYS)

"""DocVQA's example under this set's name."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.docvqa import example


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    return example.write(folder, "InfographicsVQA")

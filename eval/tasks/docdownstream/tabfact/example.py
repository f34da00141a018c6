"""A true and a false statement."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_rows


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    table = ["team  points\nA  3\nB  1"]
    rows = [row(table, "Team A has 3 points, yes or no?", "True"), row(table, "Team B leads, yes or no?", "False")]
    write_rows(folder, "test/TabFact_test.jsonl", rows)
    return folder

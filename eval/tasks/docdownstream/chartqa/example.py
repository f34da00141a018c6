"""A number, a share and a word."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_rows


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    rows = [
        row(["2019: 1,200"], "What was sold in 2019?", "1200"),
        row(["Yes 56%  No 44%"], "How many say yes?", "56%"),
        row(["Blue 3  Red 0"], "Which color has none?", "Red"),
    ]
    write_rows(folder, "test/ChartQA_test.jsonl", rows)
    return folder

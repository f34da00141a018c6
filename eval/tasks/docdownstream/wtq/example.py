"""A number, a date, and two names at once, of which one holds a comma."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_due, write_rows


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    values = {"How many won?": ["3"], "When was it?": ["2004-07-04"], "Who played?": ["Smith, Ann", "Bo Li"]}
    rows = [row(["3 won in 2004\nSmith, Ann  Bo Li"], asked, ", ".join(names)) for asked, names in values.items()]
    write_rows(folder, "test/WikiTableQuestions_test.jsonl", rows)
    known = {"table": {asked: [[name] for name in names] for asked, names in values.items()}}
    write_due(folder, "WikiTableQuestions", [("table", asked) for asked in values], known)
    return folder

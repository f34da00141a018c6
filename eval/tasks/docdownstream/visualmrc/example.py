"""Three answers in sentences."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_rows


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    rows = [
        row(["Opening hours"], "When does it open?", "The museum opens at nine in the morning."),
        row(["Whales"], "What do whales eat?", "Most large whales live on very small animals."),
        row(["Rivers"], "How long is it?", "It's about 1,233 km long, says the page."),
    ]
    write_rows(folder, "test/VisualMRC_test.jsonl", rows)
    return folder

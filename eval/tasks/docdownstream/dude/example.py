"""One question of each kind of answer, one of the excluded questions and one of another split in the references."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.dude.task import EXCLUDED
from eval.tasks.docdownstream.example_files import row, write_references, write_rows


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    kinds = {
        "abstractive": ("Is it signed?", ["Yes"]),
        "extractive": ("Which year is it?", ["1998"]),
        "list/extractive": ("Which towns are named?", ["Rome", "Lyon"]),
        "not-answerable": ("Who is the president?", []),
    }
    rows = [
        row(["Rome and Lyon, 1998", "signed"], asked, ", ".join(answers) or "Not answerable")
        for asked, answers in kinds.values()
    ]
    records = [
        {"questionId": kind, "question": asked, "answers": answers, "answer_type": kind, "data_split": "val"}
        for kind, (asked, answers) in kinds.items()
    ]
    records.insert(1, records[0] | {"questionId": min(EXCLUDED)})
    records.insert(0, records[0] | {"data_split": "train"})
    write_rows(folder, "val/DUDE_val.jsonl", rows)
    write_references(folder, "meta/DUDE/annotation.json", records)
    return folder

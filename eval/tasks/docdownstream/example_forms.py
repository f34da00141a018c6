"""Two forms of a set of keys: all keys are asked for, and the second form lacks one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_due, write_rows


def write_forms(folder: Path, dataset: str, keys: Sequence[str]) -> Path:
    """Write the set into `folder`; returns what data= names."""
    forms = {name: {key: [f"{name} {key[:4]}", f"{name}-{key[:4]}"] for key in keys} for name in ("first", "second")}
    del forms["second"][keys[-1]]
    asked = [(name, key) for name in forms for key in keys]
    answers = [forms[name].get(key, ["None"])[0] for name, key in asked]
    pages = [["\n".join(ways[0] for ways in forms[name].values())] for name, _ in asked]
    questions = [f'What is the value for the "{key}"?' for _, key in asked]
    write_rows(folder, f"test/{dataset}_test.jsonl", list(map(row, pages, questions, answers)))
    values = {name: {key: [ways] for key, ways in form.items()} for name, form in forms.items()}
    write_due(folder, dataset, [(name, text) for (name, _), text in zip(asked, questions, strict=True)], values)
    return folder

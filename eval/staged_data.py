"""Giving tasks that read data of the user's that data.

A task YAML says `data_files: {test: $data}` for a file or `{test: $data/test/X.jsonl}` for a file in a folder. The file
is copied with the folder its paths are relative to, and a small YAML that includes the task and states the copy is laid
over it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from eval.json_lines import read_lines

DATA_PLACEHOLDER = "$data"
PATH_COLUMNS = ("image", "clean_image", "sidecar")


def placeholder_of(settings: dict[str, Any]) -> str | None:
    """What a task's YAML says instead of the user's file, "$data" or "$data/FILE"; None when it reads none."""
    files = (settings.get("dataset_kwargs") or {}).get("data_files")
    named = files.values() if isinstance(files, dict) else [files]
    return next((file for file in named if isinstance(file, str) and file.startswith(DATA_PLACEHOLDER)), None)


def wanted_data(placeholder: str) -> str:
    """What `data=` has to name, for errors."""
    inside = placeholder.removeprefix(DATA_PLACEHOLDER).removeprefix("/")
    return (
        f"FOLDER, the one that holds {inside} (docs/evaluation.md)"
        if inside
        else "DIR/eval.jsonl, which data_gen writes"
    )


def file_for(placeholder: str, data: str, task: str) -> tuple[Path, Path]:
    """The file a task reads and the folder its paths are relative to.

    Args:
        placeholder: from `placeholder_of`.
        data: the option `data=`, a file or a folder.
        task: the task's name, for errors.

    Raises:
        ValueError: there is no such file or folder, or one where the other is needed.
    """
    given, inside = Path(data), placeholder.removeprefix(DATA_PLACEHOLDER).removeprefix("/")
    if not inside:
        if not given.is_file():
            raise ValueError(f"data={data}: no such file. The task {task!r} reads eval.jsonl as data_gen writes it.")
        return given, given.resolve().parent
    if not given.is_dir():
        raise ValueError(f"data={data}: no such folder. The task {task!r} reads {inside} in the folder data=.")
    if not (given / inside).is_file():
        raise ValueError(f"data={data}: has no {inside}, which the task {task!r} reads. See docs/evaluation.md.")
    return given / inside, given.resolve()


def stage_data(file: Path, root: Path, workspace: Path) -> Path:
    """Copy a JSONL into `workspace` with a `root` column, the folder that its paths are relative to.

    The copy is named by a digest of the rows and of the files they point to (size and time), so that no cache of an
    older content can be taken for it.

    Raises:
        ValueError: an empty file, a line that is not a JSON object, a path to a file that does not exist.
    """
    rows = [_with_root(row, place, root) for place, row in read_lines(file)]
    if not rows:
        raise ValueError(f"{file}: has no line, so there is nothing to evaluate.")
    digest = hashlib.sha256()
    for row in rows:
        stats = [(root / path).stat() for _, path in _paths(row)]
        digest.update(json.dumps([row, [(stat.st_size, stat.st_mtime_ns) for stat in stats]], sort_keys=True).encode())
    workspace.mkdir(parents=True, exist_ok=True)
    staged = workspace / f"{digest.hexdigest()[:16]}.jsonl"
    staged.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return staged


def overlay(task: str, settings: dict[str, Any], yaml_file: str, staged: Path) -> str:
    """Write a YAML that includes a task's own and states the staged file; returns its path, beside that file."""
    data = {"data_files": {settings["test_split"]: str(staged)}, "cache_dir": str(staged.with_suffix(".cache"))}
    laid = staged.with_name(f"{task}.yaml")
    laid.write_text(yaml.safe_dump({"include": yaml_file, "task": task, "dataset_kwargs": data}), encoding="utf-8")
    return str(laid)


def _with_root(row: dict[str, Any], place: str, root: Path) -> dict[str, Any]:
    for column, path in _paths(row):
        if not (root / path).is_file():
            raise ValueError(f"{place}: its {column} {path!r} does not exist under {root}.")
    return row | {"root": str(root)}


def _paths(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The files a row points to, with their columns; a column holds one path or a list of them."""
    found = []
    for column in PATH_COLUMNS:
        value = row.get(column) or []
        found += [(column, path) for path in (value if isinstance(value, list) else [value])]
    return found

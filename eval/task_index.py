"""Finding tasks by name, and giving those that read a file of the user's that file.

lmms-eval's own 2,000 names take 4 to 20 s to index, so they are indexed only when a name is not found in our folders.
A task YAML that says `data_files: {test: $data}` gets the file of `data=`: a small YAML that includes it and states the
path is laid over it.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eval.config import EvalConfig

if TYPE_CHECKING:
    from lmms_eval.tasks import TaskManager

OUR_TASKS = Path(__file__).parent / "tasks"
DATA_PLACEHOLDER = "$data"
PATH_COLUMNS = ("image", "clean_image", "sidecar")
LIKELIHOOD_TYPES = frozenset({"loglikelihood", "multiple_choice"})

log = logging.getLogger(__name__)


def find_tasks(config: EvalConfig, workspace: Path) -> tuple[TaskManager, list[str]]:
    """An index that knows every requested name, and those names with globs expanded.

    Args:
        config: `task_names`, `include_paths` and `data` are read.
        workspace: folder for the staged data; it must outlive the run.

    Raises:
        ValueError: an unknown task, or a task that needs `data=`.
    """
    from lmms_eval.tasks import TaskManager

    folders = [str(OUR_TASKS), *(str(_existing_folder(path)) for path in config.include_paths)]
    ours = TaskManager(include_path=folders, include_defaults=False)
    if config.data:
        staged = stage_data(Path(config.data), workspace)
        folders.insert(0, str(_overlay(ours, staged, workspace / "tasks")))
    everywhere = not all(_matching(name, ours.all_tasks) for name in config.task_names)
    if everywhere:
        log.info("Indexing the tasks of lmms-eval (about 20 s) ...")
    index = TaskManager(include_path=folders, include_defaults=everywhere)
    names = [found for name in config.task_names for found in _resolve(name, index)]
    for name in names:
        for leaf in leaf_tasks(index, name):
            if DATA_PLACEHOLDER in _data_files(task_settings(index, leaf)):
                raise ValueError(
                    f"The task {leaf!r} reads a file of yours: add data=DIR/eval.jsonl, which data_gen writes."
                )
    return index, list(dict.fromkeys(names))


def needs_likelihood(index: TaskManager, name: str) -> bool:
    """Whether a task, or any task of a group, scores given continuations instead of generated text."""
    return any(task_settings(index, leaf).get("output_type") in LIKELIHOOD_TYPES for leaf in leaf_tasks(index, name))


def leaf_tasks(index: TaskManager, name: str) -> list[str]:
    """The tasks behind a task, tag or group name."""
    entry = index.task_index.get(name, {"type": "task"})
    if entry["type"] in ("task", "python_task"):
        return [name]
    members = entry["task"] if entry["task"] != -1 else task_settings(index, name)["task"]
    names = [member if isinstance(member, str) else member["task"] for member in members]
    return [
        leaf for member in names if isinstance(member, str) and member != name for leaf in leaf_tasks(index, member)
    ]


def task_settings(index: TaskManager, name: str) -> dict[str, Any]:
    """A task's or group's YAML with its includes, functions left unresolved."""
    from lmms_eval.utils import load_yaml_config

    path = index.task_index.get(name, {}).get("yaml_path", -1)
    return load_yaml_config(path, mode="simple") if path != -1 else {}


def stage_data(data: Path, workspace: Path) -> Path:
    """Copy a JSONL into `workspace` with a `root` column, the folder that its paths are relative to.

    The copy is named by a digest of the rows and of the files they point to (size and time), so that no cache of an
    older content can be taken for it.

    Raises:
        ValueError: a missing or empty file, a line that is not a JSON object, a path to a file that does not exist.
    """
    if not data.is_file():
        raise ValueError(f"data={data}: no such file. data_gen writes it as eval.jsonl.")
    root = data.resolve().parent
    rows = [
        _read_row(line, f"{data}:{number}", root)
        for number, line in enumerate(data.open(encoding="utf-8"), 1)
        if line.strip()
    ]
    if not rows:
        raise ValueError(f"data={data}: has no line, so there is nothing to evaluate.")
    digest = hashlib.sha256()
    for row in rows:
        stats = [(root / row[column]).stat() for column in PATH_COLUMNS if row.get(column)]
        digest.update(json.dumps([row, [(stat.st_size, stat.st_mtime_ns) for stat in stats]], sort_keys=True).encode())
    workspace.mkdir(parents=True, exist_ok=True)
    staged = workspace / f"{digest.hexdigest()[:16]}.jsonl"
    staged.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return staged


def _read_row(line: str, where: str, root: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: is not JSON ({error}). Repair or remove the line.") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: must be a JSON object, found {type(row).__name__}.")
    for column in PATH_COLUMNS:
        if row.get(column) and not (root / row[column]).is_file():
            raise ValueError(f"{where}: its {column} {row[column]!r} does not exist under {root}.")
    return row | {"root": str(root)}


def _overlay(ours: TaskManager, staged: Path, folder: Path) -> Path:
    """One YAML per task of ours that reads `$data`, which includes that task and states the staged file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ours.all_subtasks:
        settings = task_settings(ours, name)
        if DATA_PLACEHOLDER in _data_files(settings):
            data = {"data_files": {settings["test_split"]: str(staged)}, "cache_dir": str(staged.with_suffix(".cache"))}
            laid = {"include": str(ours.task_index[name]["yaml_path"]), "task": name, "dataset_kwargs": data}
            laid |= {"tag": settings["tag"]} if "tag" in settings else {}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(laid), encoding="utf-8")
    return folder


def _data_files(settings: dict[str, Any]) -> list[Any]:
    files = (settings.get("dataset_kwargs") or {}).get("data_files")
    return list(files.values()) if isinstance(files, dict) else [files]


def _matching(name: str, known: Sequence[str]) -> list[str]:
    return [name] if name in known else sorted(fnmatch.filter(known, name))


def _resolve(name: str, index: TaskManager) -> list[str]:
    """The name itself, or the tasks a glob matches; groups it matches are opened, so that no task runs twice."""
    matches = _matching(name, index.all_tasks)
    if matches:
        return matches if matches == [name] else [leaf for match in matches for leaf in leaf_tasks(index, match)]
    close = difflib.get_close_matches(name, index.all_tasks, n=5, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}? Also close: {', '.join(close[1:]) or 'nothing else'}." if close else ""
    raise ValueError(
        f"Unknown task {name!r}.{hint} {len(index.all_tasks)} names are known; `lmms-eval tasks list` prints "
        "lmms-eval's, som_listing is ours, include_path=DIR adds yours."
    )


def _existing_folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"include_path={path}: no such folder.")
    return folder.resolve()

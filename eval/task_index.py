"""Finding tasks by name.

lmms-eval's own 2,000 names take 4 to 20 s to index, so they are indexed only when a name is not found in our folders or
is a glob, which is meant for all names.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.config import EvalConfig
from eval.staged_data import file_for, overlay, placeholder_of, stage_data, wanted_data

if TYPE_CHECKING:
    from lmms_eval.tasks import TaskManager

OUR_TASKS = Path(__file__).parent / "tasks"
LIKELIHOOD_TYPES = frozenset({"loglikelihood", "multiple_choice"})

log = logging.getLogger(__name__)


def find_tasks(config: EvalConfig, workspace: Path) -> tuple[TaskManager, list[str]]:
    """An index that knows every requested name, and those names with globs expanded.

    Args:
        config: `task_names`, `include_paths` and `data` are read.
        workspace: folder for the staged data; it must outlive the run.

    Raises:
        ValueError: an unknown task, a task that needs `data=`, data that no task reads or that is malformed.
    """
    from lmms_eval.tasks import TaskManager

    folders = [str(OUR_TASKS), *(str(_existing_folder(path)) for path in config.include_paths)]
    ours = TaskManager(include_path=folders, include_defaults=False)
    everywhere = not _all_known(config.task_names, ours)
    if everywhere:
        log.info("Indexing the tasks of lmms-eval (about 20 s) ...")
    index = TaskManager(include_path=folders, include_defaults=everywhere)
    names = list(dict.fromkeys(found for name in config.task_names for found in _resolve(name, index)))
    _give_data(names, index, config.data, workspace)
    return index, names


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


def _give_data(names: Sequence[str], index: TaskManager, data: str | None, workspace: Path) -> None:
    """Point the tasks that read data of the user's at that data."""
    leaves = dict.fromkeys(leaf for name in names for leaf in leaf_tasks(index, name))
    readers = {leaf: place for leaf in leaves if (place := placeholder_of(task_settings(index, leaf)))}
    if data and not readers:
        raise ValueError(f"data={data}: none of the tasks {', '.join(names)} reads data of yours. Leave data= out.")
    for leaf, place in readers.items():
        if not data:
            raise ValueError(f"The task {leaf!r} reads data of yours: add data={wanted_data(place)}.")
        staged = stage_data(*file_for(place, data, leaf), workspace)
        entry = index.task_index[leaf]
        entry["yaml_path"] = overlay(leaf, task_settings(index, leaf), entry["yaml_path"], staged)


def _all_known(names: Sequence[str], ours: TaskManager) -> bool:
    """Whether every name, and every task behind it, is in our folders."""
    known = set(ours.all_tasks)
    return known.issuperset(names) and known.issuperset(leaf for name in names for leaf in leaf_tasks(ours, name))


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
        "lmms-eval's, docs/evaluation.md lists ours, include_path=DIR adds yours."
    )


def _existing_folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"include_path={path}: no such folder.")
    return folder.resolve()

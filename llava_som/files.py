"""Files and folders that take their name only when they are whole: a kill or a full disk leaves none half written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def new_file(path: Path, unfinished: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file to write, which becomes `path` when the block ends; an exception leaves nothing of it.

    Args:
        path: its folder is made where there is none.
        unfinished: what it is called until then, in the same folder. Where several may write one file at a time, each
            needs a name of its own here; by default, what a kill left over is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished or unfinished_path(path)
    try:
        with unfinished.open("w+b") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces `path` when the block ends; an exception leaves nothing of it."""
    unfinished, outdated = unfinished_path(path), path.with_name(f".{path.name}.old")
    for left_over in (unfinished, outdated):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if path.exists():
            path.rename(outdated)
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(outdated, ignore_errors=True)


def unfinished_path(path: Path) -> Path:
    """Where a file or folder is written until it is whole."""
    return path.with_name(f".{path.name}.part")

"""Files and folders that take their name only when they are whole: a kill or a full disk leaves none half written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data_gen.journal import line_of
from llava_som.images import ImageError, resolve_inside, write_image

if TYPE_CHECKING:
    from PIL import Image

    from llava_som.marks.marker import MarkedImage

LONGEST_NAME = 255  # bytes


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write, which becomes `path` when the block ends; an exception leaves nothing of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_path(path)
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


def save_image(image: Image.Image, folder: Path, name: str) -> Path:
    """Write `folder / name` (.jpg or .png) at once and return its path; a name outside the folder is an ImageError."""
    path = resolve_inside(name, folder)
    with new_file(path) as file:
        write_image(image, file, path.suffix)
    return path


def save_text(text: str, path: Path) -> None:
    """Write a text file at once; what cannot be UTF-8 (in a file name) becomes a backslash escape, as JSON reads it."""
    with new_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def save_marked(marked: MarkedImage, folder: Path, name: str) -> Path:
    """Write the sidecar, then the marked image beside it, so that an image without a sidecar is never ours."""
    from llava_som.marks.record import sidecar_path  # brings OpenCV, which --help does without

    path = resolve_inside(name, folder)
    refuse_long_name(unfinished_path(sidecar_path(path)))
    record = marked.record.model_copy(update={"image": path.name})
    save_text(record.to_json(), sidecar_path(path))
    return save_image(marked.image, folder, name)


def refuse_long_name(path: Path) -> None:
    """An ImageError for a file whose name is longer than file systems take; its image is at fault, not the disk."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise ImageError(f"{path.name[:60]}...: the name is too long for what is written beside it. Rename the file.")


def save_json_lines(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write one JSON object a line, at once."""
    with new_file(path) as file:
        file.writelines(map(line_of, rows))


def save_json_list(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write one JSON array, an element a line, at once; the rows are never in memory together."""
    with new_file(path) as file:
        file.write(b"[\n")
        for number, row in enumerate(rows):
            file.write((b",\n" if number else b"") + line_of(row).rstrip(b"\n"))
        file.write(b"\n]\n")


def unfinished_path(path: Path) -> Path:
    """Where a file or folder is written until it is whole."""
    return path.with_name(f".{path.name}.part")

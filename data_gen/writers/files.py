"""What a run writes: images, sidecars, text and lists, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data_gen.journal import line_of
from llava_som.files import new_file, unfinished_path
from llava_som.images import ImageError, resolve_inside, write_image

if TYPE_CHECKING:
    from PIL import Image

    from llava_som.data.page_record import PageRecord
    from llava_som.marks.marker import MarkedImage

LONGEST_NAME = 255  # bytes


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
    record = marked.record.model_copy(update={"image": path.name})
    save_sidecar(record.to_json(), sidecar_path(path))
    return save_image(marked.image, folder, name)


def save_page(image: Image.Image, record: PageRecord, folder: Path, name: str) -> Path:
    """Write the sidecar of a page, then its image beside it; returns the path of the image."""
    from llava_som.data.page_record import page_sidecar_path

    path = resolve_inside(name, folder)
    save_sidecar(record.model_copy(update={"image": path.name}).to_json(), page_sidecar_path(path))
    return save_image(image, folder, name)


def save_sidecar(text: str, path: Path) -> None:
    """Write a sidecar at once; an ImageError where its name is too long for the disk."""
    refuse_long_name(unfinished_path(path))
    save_text(text, path)


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
        write_array(map(line_of, rows), file)


def write_array(lines: Iterable[bytes], file: IO[bytes]) -> None:
    """JSON lines as one array, an element a line."""
    file.write(b"[\n")
    file.writelines((b",\n" if number else b"") + line.rstrip(b"\n") for number, line in enumerate(lines))
    file.write(b"\n]\n")

"""The images of a dataset in a form that browsers show."""

from __future__ import annotations

import io
import threading
from pathlib import Path

from llava_som.data.record_images import image_file, open_record_image

TYPES = {
    **{".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"},
    ".bmp": "image/bmp",
}
_ONE_AT_A_TIME = threading.Lock()  # reading parquet, and refusing broken images, is not made for several threads


def is_shown_as_it_is(file: Path) -> bool:
    """Whether browsers show the file itself; others (TIFF, the rows of a parquet file) are converted."""
    return file.suffix.lower() in TYPES


def image_content(image: str, root: Path) -> tuple[bytes, str]:
    """The bytes to send for an image of a record, and their media type.

    Raises:
        ImageError: it lies outside the root, or is to be converted and is no image.
        FileNotFoundError: there is no such file.
    """
    file = image_file(image, root)
    if is_shown_as_it_is(file):
        return file.read_bytes(), TYPES[file.suffix.lower()]
    converted = io.BytesIO()
    with _ONE_AT_A_TIME:
        open_record_image(image, root).save(converted, format="JPEG", quality=92)
    return converted.getvalue(), "image/jpeg"

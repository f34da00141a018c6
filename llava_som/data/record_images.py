"""Opening the images that records name: files under the image root, or rows of parquet files under it.

The second kind is named `<file>.parquet#<row>`, a path like any other: relative to the root, and checked to stay in it.
"""

from __future__ import annotations

import bisect
import io
import re
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from llava_som.data.sources import open_parquet
from llava_som.images import FORMATS, ImageError, open_image, resolve_inside, strict_pillow, to_rgb

if TYPE_CHECKING:
    import pyarrow.parquet

STORED = re.compile(r"(.+\.parquet)#(\d+)")  # the file, and the row of it that holds the image


def image_file(image: str, root: str | Path) -> Path:
    """The file that holds an image of a record, inside the root; an ImageError when it would lie outside."""
    stored = STORED.fullmatch(image)
    return resolve_inside(stored[1] if stored else image, root)


def open_record_image(image: str, root: str | Path) -> Image.Image:
    """An image of a record as upright RGB: a file under `root`, or a row of a parquet file under it.

    Raises:
        ImageError: missing, corrupt, or outside the root; the message names the file, and the row.
    """
    stored = STORED.fullmatch(image)
    if stored is None:
        return open_image(image, root)
    file, row = image_file(image, root), int(stored[2])
    if not file.is_file():
        raise ImageError(f"{file}: no such file. Stored images are looked for beside their file: leave image_root out.")
    try:
        content = _stored_image(file, row)
        if content["bytes"] is None:
            return open_image(content["path"], root)
        with strict_pillow(), Image.open(io.BytesIO(content["bytes"]), formats=FORMATS) as picture:
            picture.load()
            return to_rgb(picture)
    except ImageError:
        raise
    except Exception as error:  # as in open_image, and what pyarrow says of a damaged file
        raise ImageError(f"{file}, row {row}: holds no usable image ({error}). Write the file again.") from error


def _stored_image(file: Path, row: int) -> dict[str, Any]:
    """The struct of one row. Its row group is read for it, so groups of few rows are quick to read in any order."""
    parquet, ends = _row_groups(file, file.stat().st_mtime_ns)
    group = bisect.bisect_right(ends, row)
    table = parquet.read_row_group(group, columns=["image"], use_threads=False)
    return table["image"][row - (ends[group - 1] if group else 0)].as_py()


@lru_cache(maxsize=64)
def _row_groups(file: Path, modified: int) -> tuple[pyarrow.parquet.ParquetFile, list[int]]:
    """An open file and the row behind each of its row groups; a file that was written again is opened again."""
    parquet = open_parquet(file)
    groups = range(parquet.metadata.num_row_groups)
    return parquet, list(accumulate(parquet.metadata.row_group(group).num_rows for group in groups))

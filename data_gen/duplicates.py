"""Images that are nearly the same picture, found by a 64-bit fingerprint of their brightness gradients (dHash).

The picture becomes 9 x 8 grey values; each bit says whether a value is brighter than its left neighbour. Scaling,
recompression and brightness leave most of these signs as they are, another picture agrees in about half of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_DRAFT = 128  # pixels a side, at least, that a JPEG is decoded to
_ROWS, _COLUMNS = 128, 4096  # pairs compared at a time: half a million, which stay in the processor's cache


def difference_hash(image: Image.Image) -> int:
    """The fingerprint of an image as it is seen upright, 0 to 2**64 - 1.

    A JPEG that is opened but not yet loaded is decoded at a fraction of its size, which changes hardly a bit.
    """
    from PIL import Image, ImageOps

    image.draft("L", (_DRAFT, _DRAFT))  # changes nothing in an image that is loaded, or no JPEG
    upright = ImageOps.exif_transpose(image).convert("L")
    grey = np.asarray(upright.resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def file_hash(file: Path) -> int | None:
    """The fingerprint of an image file; None where it cannot be opened, which whoever uses the image has to say."""
    from PIL import Image

    from llava_som.images import FORMATS, strict_pillow

    try:
        with strict_pillow(), Image.open(file, formats=FORMATS) as image:
            return difference_hash(image)
    except Exception:  # decoders let through what they ran into
        return None


def near_duplicates(hashes: Sequence[int | None], max_bits: int) -> dict[int, int]:
    """Which images repeat an earlier one: {index: the first earlier index that stays}.

    Every pair is compared, so the result is exact. An image counts as a duplicate only of one that itself stays: of
    two that stay none are within `max_bits`, and nothing goes on account of a picture that is not in the data.

    Args:
        hashes: fingerprints in the order in which the first one stays; None for an image without one, which stays.
        max_bits: two fingerprints that differ in so many bits or fewer are the same picture.
    """
    known = [index for index, value in enumerate(hashes) if value is not None]
    values = np.array([hashes[index] for index in known], np.uint64)
    kept = np.empty(len(known), np.intp)  # positions in `values`
    count, found = 0, {}
    for start in range(0, len(values), _ROWS):
        block = values[start : start + _ROWS]
        first = _first_matches(block, values[kept[:count]], max_bits)
        new = count
        for row, position in enumerate(first):
            if position < 0:  # none of the earlier blocks; perhaps one of this block
                near = np.bitwise_count(values[kept[new:count]] ^ block[row]) <= max_bits
                position = new + int(near.argmax()) if near.any() else -1
            if position < 0:
                kept[count] = start + row
                count += 1
            else:
                found[known[start + row]] = known[kept[position]]
    return found


def _first_matches(block: np.ndarray, kept: np.ndarray, max_bits: int) -> np.ndarray:
    """For each value of the block, the position of the first value of `kept` within `max_bits`, or -1."""
    first = np.full(len(block), -1, np.intp)
    for start in range(0, len(kept), _COLUMNS):
        near = np.bitwise_count(block[:, None] ^ kept[None, start : start + _COLUMNS]) <= max_bits
        new = near.any(axis=1) & (first < 0)
        first[new] = start + near[new].argmax(axis=1)
    return first

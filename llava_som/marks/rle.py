"""COCO run-length encoding of masks, in numpy: the same strings as pycocotools, without its compiled extension.

Pixels are read column by column; `counts` are the lengths of alternating runs, starting with zeros. In the string form
each count (from the fourth on, its difference to the count two before) is written in groups of five bits, lowest first:
a signed LEB128 with 48 added to make it printable.
"""

from __future__ import annotations

import numpy as np
from typing_extensions import TypedDict

_GROUP_BITS, _CONTINUES, _SIGN, _FIRST_CHARACTER = 5, 0x20, 0x10, 48


class Rle(TypedDict):
    """What pycocotools calls an RLE: `size` is [height, width]; `counts` is the string or the plain list of runs."""

    size: list[int]
    counts: str | list[int]


def encode_rle(mask: np.ndarray, x: int = 0, y: int = 0, image_size: tuple[int, int] | None = None) -> Rle:
    """Encode a bool mask [h, w] whose corner sits at (x, y) of an image of (W, H); without a size it is the image."""
    height, width = mask.shape
    image_width, image_height = image_size or (width, height)
    columns = np.zeros((width, height + 2), bool)
    columns[:, 1:-1] = mask.T
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    edges = (x + column) * image_height + y + row
    if height == image_height:  # a run that goes on in the next column has two edges at one place: neither counts
        twice = np.flatnonzero(edges[1:] == edges[:-1])
        edges = np.delete(edges, np.concatenate([twice, twice + 1]))
    total = image_width * image_height
    counts = np.diff(edges, prepend=0, append=total)
    if edges.size and edges[-1] == total:
        counts = counts[:-1]
    return {"size": [image_height, image_width], "counts": _counts_to_string(counts)}


def decode_rle(rle: Rle) -> np.ndarray:
    """The bool mask [H, W] of an RLE.

    Raises:
        ValueError: the counts are damaged or do not add up to height x width.
    """
    height, width = rle["size"]
    given = rle["counts"]
    counts = np.asarray(given, np.int64) if isinstance(given, list) else _string_to_counts(given)
    # Each run on its own first: 64-bit sums wrap around, and np.repeat trusts them with its memory.
    if (counts < 0).any() or (counts > height * width).any() or counts.sum() != height * width:
        raise ValueError(
            f"Damaged RLE: its runs add up to {counts.sum()} pixels, "
            f"but its size [{height}, {width}] has {height * width}."
        )
    flat = np.repeat(np.arange(counts.size) % 2 == 1, counts)
    return flat.reshape(width, height).T


def _counts_to_string(counts: np.ndarray) -> str:
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    groups, written = [], []
    active = np.ones(rest.size, bool)
    while active.any():
        low = rest & (_CONTINUES - 1)
        rest = rest >> _GROUP_BITS
        more = np.where(low & _SIGN, rest != -1, rest != 0)
        groups.append(low | np.where(more, _CONTINUES, 0))
        written.append(active)
        active = active & more
    characters = np.stack(groups, axis=1)[np.stack(written, axis=1)] + _FIRST_CHARACTER
    return characters.astype(np.uint8).tobytes().decode("ascii")


def _string_to_counts(text: str | bytes) -> np.ndarray:
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not groups.size or groups.min() < 0 or groups.max() >= 2 * _CONTINUES or groups[-1] & _CONTINUES:
        raise ValueError(f"Damaged RLE: {text[:40]!r} is not a COCO run-length string.")
    last = np.flatnonzero(groups & _CONTINUES == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 12:
        raise ValueError(f"Damaged RLE: {text[:40]!r} holds a run longer than any image.")
    shift = _GROUP_BITS * (np.arange(groups.size) - np.repeat(first, length))
    counts = np.add.reduceat((groups & (_CONTINUES - 1)) << shift, first)
    counts -= np.where(groups[last] & _SIGN, np.int64(1) << (_GROUP_BITS * length), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts

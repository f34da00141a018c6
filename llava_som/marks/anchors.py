"""Labels outside the corners of boxes, for screenshots, where a label on the element would hide what it says.

Of eight places around a box, the one is taken that runs least into other boxes and labels (Magma, arXiv 2502.13130,
Algorithm 1): the worst overlap counts, and among places without one the distance to what is nearest.
"""

from __future__ import annotations

import numpy as np

from .boxes import Box, Size, Taken, as_box, inside

_PER_PIXEL = 1e-4  # what a pixel of distance is worth, in square pixels of overlap


def place_on_anchor(box: Box, others: np.ndarray, size: Size, image_size: Size, taken: Taken) -> Box | None:
    """The best free place for a label outside a box; inside a corner when no place outside is free.

    Args:
        box: the element's box.
        others: boxes of the other elements [n, 4].
        size: width and height of the label.
        image_size: width and height of the image; the label stays inside.
        taken: the labels that are placed; none is covered.

    Returns:
        The label's box, or None when no place is free.
    """
    for places in (_outside(box, size), _corners(box, size)):
        places = places[inside(places, image_size)]
        places = places[taken.free(places)]
        if len(places):
            return as_box(places[crowding(places, np.concatenate([others, taken.boxes])).argmin()])
    return None


def crowding(places: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
    """How much places [k, 4] run into obstacles [n, 4]: the largest of overlap - 1e-4 x corner distance, float [k]."""
    if not len(obstacles):
        return np.zeros(len(places))
    places, obstacles = places[:, None], obstacles[None]
    shared = np.minimum(places[..., 2:], obstacles[..., 2:]) - np.maximum(places[..., :2], obstacles[..., :2])
    overlap = shared.clip(0).prod(axis=-1)
    sides = places.reshape(-1, 1, 2, 1, 2) - obstacles.reshape(1, -1, 1, 2, 2)  # any left or right to any left or right
    distance = np.hypot(*np.abs(sides).min(axis=(2, 3)).transpose(2, 0, 1))
    return (overlap - _PER_PIXEL * distance).max(axis=1)


def _outside(box: Box, size: Size) -> np.ndarray:
    """Above and below at either end, right and left at either end: [8, 4]."""
    left, top, right, bottom = box
    width, height = size
    rows = [(left, top - height), (right - width, top - height), (left, bottom), (right - width, bottom)]
    columns = [(right, top), (right, bottom - height), (left - width, top), (left - width, bottom - height)]
    return _of_corners(rows + columns, size)


def _corners(box: Box, size: Size) -> np.ndarray:
    """The four corners inside: [4, 4]."""
    left, top, right, bottom = box
    width, height = size
    return _of_corners([(x, y) for y in (top, bottom - height) for x in (left, right - width)], size)


def _of_corners(corners: list[tuple[int, int]], size: Size) -> np.ndarray:
    corner = np.array(corners)
    return np.concatenate([corner, corner + size], axis=1)

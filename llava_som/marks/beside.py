"""A tag beside its region, tied to it by a leader line: for regions smaller than a tag, or covered with other tags.

Places all around are tried from near to far. A tag never covers another; among the places left, the one is taken that
hides the fewest other marks' points and leader lines and whose own line runs under the fewest tags.
"""

from __future__ import annotations

import numpy as np

from .boxes import Box, Size, Taken, as_box, contains, inside

_DIRECTIONS = 16
_RINGS = 8  # half a tag's height apart
_SAMPLES = np.linspace(0, 1, 8)  # where along a leader line its way is checked


class Sights:
    """What tags beside their regions should not hide: the points of all marks, and the lines drawn so far."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points

    def add_line(self, line: Box) -> None:
        """Remember a leader line, from (x, y) to (x, y)."""
        self.points = np.concatenate([self.points, _along(np.array([line]))[0]])


def place_beside(
    point: np.ndarray, clear: np.ndarray, size: Size, image_size: Size, taken: Taken, sights: Sights, gap: int
) -> tuple[Box, Box] | None:
    """The best free place for a tag around a region.

    Args:
        point: x and y [2] of the pixel at which the leader line begins.
        clear: the box [4] around it that the tag must not touch.
        size: width and height of the tag.
        image_size: width and height of the image; the tag stays inside.
        taken: the tags that are placed.
        sights: what it should not hide.
        gap: pixels between `clear` and the tag, at least.

    Returns:
        The tag's box and the leader line (x, y of both ends), or None when nothing is free.
    """
    boxes = _around(clear, size, gap)
    boxes = boxes[inside(boxes, image_size)]
    boxes = boxes[taken.free(boxes)]
    if not len(boxes):
        return None
    lines = np.concatenate([np.broadcast_to(point, (len(boxes), 2)), np.clip(point, boxes[:, :2], boxes[:, 2:] - 1)], 1)
    distance = np.hypot(*(lines[:, 2:] - lines[:, :2]).T)
    others = sights.points[(sights.points != point).any(axis=1)]
    hidden = contains(boxes, others).sum(axis=1)
    passed_under = contains(taken.boxes, _along(lines)).any(axis=2).sum(axis=0)
    best = np.lexsort([distance, hidden + passed_under])[0]
    return as_box(boxes[best]), as_box(lines[best])


def _around(clear: np.ndarray, size: Size, gap: int) -> np.ndarray:
    """Boxes of a tag around `clear`, [directions x rings, 4]."""
    angle = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1).round(6)
    low, high = clear[:2], clear[2:]
    with np.errstate(divide="ignore"):
        nearest = (((high - low + size) / 2 + gap) / np.abs(direction)).min(axis=1)
    ring = nearest + np.arange(_RINGS)[:, None] * (size[1] / 2)
    centre = (low + high) / 2 + (ring[:, :, None] * direction).reshape(-1, 2)
    outwards = np.tile(np.sign(direction), (_RINGS, 1))  # rounded away from the region, never into the gap
    corner = np.where(outwards > 0, np.ceil(centre - np.array(size) / 2), np.floor(centre - np.array(size) / 2))
    return np.concatenate([corner, corner + size], axis=1).astype(int)


def _along(lines: np.ndarray) -> np.ndarray:
    """Points on lines [k, 4]: [k, samples, 2]."""
    start, end = lines[:, None, :2], lines[:, None, 2:]
    return start + (end - start) * _SAMPLES[:, None]

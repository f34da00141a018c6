"""Boxes of tags: left, top, right, bottom in pixels, the last two exclusive; many of them as an int array [n, 4]."""

from __future__ import annotations

import numpy as np

Box = tuple[int, int, int, int]
Point = tuple[int, int]
Size = tuple[int, int]


class Taken:
    """The tags placed so far. Between two of them `gap` pixels stay free, so that "1" beside "2" is not read as 12."""

    def __init__(self, capacity: int, gap: int) -> None:
        self._boxes = np.empty((capacity, 4), int)
        self._count = 0
        self._gap = gap

    @property
    def boxes(self) -> np.ndarray:
        """[n, 4] in the order added."""
        return self._boxes[: self._count]

    def add(self, box: Box) -> None:
        """Claim a box."""
        self._boxes[self._count] = box
        self._count += 1

    def free(self, boxes: np.ndarray) -> np.ndarray:
        """Which of the boxes [k, 4] keep the gap to every tag: bool [k]."""
        left, top, right, bottom = boxes.T[:, :, None]
        near_columns = (left < self.boxes[:, 2] + self._gap) & (right + self._gap > self.boxes[:, 0])
        near_rows = (top < self.boxes[:, 3] + self._gap) & (bottom + self._gap > self.boxes[:, 1])
        return ~(near_columns & near_rows).any(axis=1)


def tag_box(point: Point, size: Size, image_size: Size) -> Box:
    """The box of `size` (w, h) centred on the point and pushed inside the image; cut only if the image is smaller."""
    left, top = (
        max(0, min(centre - length // 2, limit - length))
        for centre, length, limit in zip(point, size, image_size, strict=True)
    )
    return left, top, min(left + size[0], image_size[0]), min(top + size[1], image_size[1])


def tag_boxes(points: np.ndarray, size: Size, image_size: Size) -> np.ndarray:
    """`tag_box` of many points [k, 2] in an image in which the tag fits: [k, 4]."""
    corner = np.clip(points - np.array(size) // 2, 0, np.array(image_size) - size)
    return np.concatenate([corner, corner + size], axis=1)


def fits(size: Size, image_size: Size) -> bool:
    """Whether a tag of that size has room in the image."""
    return size[0] <= image_size[0] and size[1] <= image_size[1]


def inside(boxes: np.ndarray, image_size: Size) -> np.ndarray:
    """Which of the boxes [k, 4] lie wholly in the image: bool [k]."""
    within = (boxes[:, :2] >= 0) & (boxes[:, 2:] <= image_size)
    return np.logical_and.reduce(within, axis=1)


def contains(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points [..., 2] lie in which of the boxes [k, 4]: bool [k, ...]."""
    x, y = points[..., 0], points[..., 1]
    left, top, right, bottom = boxes.T.reshape(4, -1, *[1] * x.ndim)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


def as_box(values: np.ndarray) -> Box:
    """One row of an array as plain numbers."""
    left, top, right, bottom = values.tolist()
    return left, top, right, bottom

"""Where each number goes: on the pixel deepest inside the visible part of its region.

The deepest pixel is the maximum of the Euclidean distance transform, with the image border counting as an edge (the
mark allocation of Set-of-Mark, arXiv 2310.11441). It always lies on the region itself, which a centroid or a box centre
does not: think of a ring. The tag is centred there and moved only as far as the frame demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .order import Kept
from .presets import Preset
from .region import Region
from .render import tag_size


@dataclass(frozen=True)
class Mark:
    """One number on one region.

    Args:
        id: 1, 2, 3, ... in drawing order.
        label: the text that is drawn.
        region: the whole region.
        visible: the part of it that no smaller region covers.
        point_xy: the deepest pixel of the visible part.
        tag_box_xyxy: left, top, right, bottom of the tag (right and bottom exclusive).
    """

    id: int
    label: str
    region: Region
    visible: Region
    point_xy: tuple[int, int]
    tag_box_xyxy: tuple[int, int, int, int]


def place_marks(kept: Sequence[Kept], preset: Preset) -> list[Mark]:
    """Number the regions from 1 in the order given and find each tag's place."""
    marks = []
    for number, item in enumerate(kept, start=1):
        label, point = str(number), deepest_point(item.visible)
        box = tag_box(point, tag_size(label, preset), item.region.image_size)
        marks.append(Mark(number, label, item.region, item.visible, point, box))
    return marks


def deepest_point(region: Region) -> tuple[int, int]:
    """The pixel (x, y) farthest from the region's edge; of several, the middle one in reading order.

    Squared distances are whole numbers. They are rounded to them, because OpenCV's roots differ in the last bit
    from call to call, and so would the choice among equals.
    """
    padded = cv2.copyMakeBorder(region.mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = np.rint(np.square(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)))
    deepest = np.flatnonzero(depth == depth.max())
    row, column = divmod(int(deepest[deepest.size // 2]), depth.shape[1])
    return region.x + column - 1, region.y + row - 1


def tag_box(point_xy: tuple[int, int], size: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of `size` (w, h) centred on the point and pushed inside the image; cut only if the image is smaller."""
    left, top = (
        max(0, min(centre - length // 2, limit - length))
        for centre, length, limit in zip(point_xy, size, image_size, strict=True)
    )
    return left, top, min(left + size[0], image_size[0]), min(top + size[1], image_size[1])

"""Boxes that models write, and how far two of them overlap (DocLocal4K, mPLUG-DocOwl 1.5, arXiv 2403.12895).

A box is "<bbox>x1,y1,x2,y2</bbox>": left, top, right and bottom in thousandths of the page, whole numbers 0 to 999.
"""

from __future__ import annotations

import re

Box = tuple[float, float, float, float]

SCALE = 999  # what the released evaluation divides by, so that 999 is the page's edge

_TAGS = re.compile(r"</?bbox>")


def parse_box(text: str) -> Box | None:
    """Left, top, right, bottom as shares of the page, clamped to [0, 1]; None unless the text is one box.

    The tags may be missing.
    """
    parts = _TAGS.sub("", text).split(",")
    if len(parts) != 4:
        return None
    try:
        left, top, right, bottom = (min(1.0, max(0.0, int(part) / SCALE)) for part in parts)
    except ValueError:
        return None
    return left, top, right, bottom


def iou(first: Box, second: Box) -> float:
    """Intersection over union, in [0, 1].

    Each overlap is clamped at 0: the product of two negative ones is not an area. A box whose right end is left of its
    left end, or without area, overlaps nothing.
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])

"""How far two boxes overlap, the score of text grounding in DocLocal4K (mPLUG-DocOwl 1.5, arXiv 2403.12895).

Boxes are left, top, right, bottom; how models write them is said in `llava_som.data.text_boxes`.
"""

from __future__ import annotations

from collections.abc import Sequence


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union, in [0, 1].

    Each overlap is clamped at 0: the product of two negative ones is not an area. A box whose right end is left of its
    left end, or without area, overlaps nothing.
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])

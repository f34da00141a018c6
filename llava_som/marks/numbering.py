"""Which mark gets which number.

By area a model can guess the order from the sizes; a shuffled order takes that away and serves as an augmentation. The
reading order is what people expect of a screenshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from .presets import Preset
from .region import Region


def numbers_of(
    regions: Sequence[Region], points_xy: Sequence[tuple[int, int]], preset: Preset, seed: int, line_height: int
) -> list[int]:
    """The numbers 1, 2, 3, ... of regions given smallest first.

    Args:
        regions: the regions that get a mark, smallest first.
        points_xy: where each of them is.
        preset: says by which rule.
        seed: of the run; with the geometry of the regions it decides a shuffled order.
        line_height: points so many pixels apart, or more, are never on one line of the reading order.

    Returns:
        One number for each region.
    """
    order = {
        "area": lambda: list(range(len(regions))),
        "reading": lambda: _reading_order(points_xy, line_height),
        "shuffled": lambda: _shuffled_order(regions, seed),
    }[preset.numbering]()
    numbers = [0] * len(order)
    for number, place in enumerate(order, start=1):
        numbers[place] = number
    return numbers


def _reading_order(points_xy: Sequence[tuple[int, int]], line_height: int) -> list[int]:
    """A line begins at the highest point left and takes all points less than a line height lower."""
    lines: list[list[int]] = []
    for place in sorted(range(len(points_xy)), key=lambda place: points_xy[place][::-1]):
        if lines and points_xy[place][1] - points_xy[lines[-1][0]][1] < line_height:
            lines[-1].append(place)
        else:
            lines.append([place])
    return [place for line in lines for place in sorted(line, key=lambda place: points_xy[place])]


def _shuffled_order(regions: Sequence[Region], seed: int) -> list[int]:
    geometry = [(*region.image_size, *region.bbox_xywh, region.area) for region in regions]
    digest = hashlib.sha256(repr((seed, geometry)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest)).permutation(len(regions)).tolist()

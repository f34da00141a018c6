"""Which regions get a number, in what order, and which pixels each one keeps.

Smallest first, each later region without the pixels of all earlier ones (the mark allocation of Set-of-Mark,
arXiv 2310.11441): a shirt is marked on the shirt and its wearer on what the shirt leaves free. Regions that keep too
little are skipped, take no number, and still carve: the pixels of a sliver belong to the sliver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .presets import Preset
from .region import Region


@dataclass(frozen=True)
class Kept:
    """A region that gets a mark: all of it, and the part of it that no smaller region covers."""

    region: Region
    visible: Region


@dataclass(frozen=True)
class Skipped:
    """A region that gets no mark, the pixels it had left, and why."""

    region: Region
    area_visible: int
    reason: str


def order_regions(regions: Sequence[Region], preset: Preset) -> tuple[list[Kept], list[Skipped]]:
    """Sort by area, subtract, drop what is too small. Equal areas keep the order given.

    Returns:
        The regions to mark in the order of their numbers, and the skipped ones, both smallest first.

    Raises:
        ValueError: the regions belong to images of different sizes.
    """
    if not regions:
        return [], []
    sizes = {region.image_size for region in regions}
    if len(sizes) > 1:
        raise ValueError(f"The regions belong to images of different sizes: {sorted(sizes)}. Resize them to one size.")
    taken = np.zeros(sizes.pop()[::-1], bool)
    kept, skipped = [], []
    for region in sorted(regions, key=lambda region: region.area):
        earlier = taken[region.window]
        visible = region.mask & ~earlier
        earlier |= region.mask
        area_visible = int(np.count_nonzero(visible))
        if area_visible < max(preset.min_area, 1):
            reason = f"{area_visible} of {region.area} pixels visible, fewer than {preset.min_area}"
            skipped.append(Skipped(region, area_visible, reason))
        else:
            whole = area_visible == region.area
            kept.append(Kept(region, region if whole else replace(region, mask=visible)))
    return kept, skipped

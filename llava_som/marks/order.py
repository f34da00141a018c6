"""Which regions get a number, in what order, and which pixels each one keeps.

Smallest first, each later region without the pixels of all earlier ones (the mark allocation of Set-of-Mark,
arXiv 2310.11441): a shirt is marked on the shirt and its wearer on what the shirt leaves free. Regions that keep too
little are skipped, take no number, and still carve: the pixels of a sliver belong to the sliver. A duplicate, or what
its source calls unfit, is left out before that and carves nothing. Masks are compared on the crops that two regions
share, and only where their boxes allow what is asked for, so the cost follows the regions' area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .presets import Preset
from .region import Region

SAME_AREA = 0.7  # smaller over larger area from which one region inside another is a duplicate and not a part


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
    """Drop duplicates, sort by area, subtract, drop what is too small or too large or one too many.

    Equal areas keep the order given.

    Returns:
        The regions to mark, smallest first, and the skipped ones, also smallest first.

    Raises:
        ValueError: the regions belong to images of different sizes.
    """
    if not regions:
        return [], []
    sizes = {region.image_size for region in regions}
    if len(sizes) > 1:
        raise ValueError(f"The regions belong to images of different sizes: {sorted(sizes)}. Resize them to one size.")
    skipped = [Skipped(region, region.area, region.unfit) for region in regions if region.unfit]
    kept: list[Kept] = []
    if fit := sorted((region for region in regions if not region.unfit), key=lambda region: region.area):
        distinct, duplicates = _without_duplicates(fit, preset)
        left, too_small = _subtract(distinct, preset)
        kept, surplus = _best(left, preset.mark_limit)
        skipped += [*duplicates, *too_small, *surplus]
    return kept, sorted(skipped, key=lambda item: item.region.area)


def _subtract(ascending: Sequence[Region], preset: Preset) -> tuple[list[Kept], list[Skipped]]:
    """What each region keeps, when that is enough and the region not too large."""
    width, height = ascending[0].image_size
    least = max(preset.min_area, math.ceil(preset.min_share * width * height), 1)
    taken = np.zeros((height, width), bool)
    kept, skipped = [], []
    for region in ascending:
        visible = region.mask
        if preset.subtract:
            earlier = taken[region.window]
            visible = region.mask & ~earlier
            earlier |= region.mask
        area_visible = int(np.count_nonzero(visible))
        if area_visible < least:
            reason = f"{area_visible} of {region.area} pixels visible, fewer than {least}"
            skipped.append(Skipped(region, area_visible, reason))
        elif region.area > preset.max_share * width * height:
            reason = f"covers {region.area / (width * height):.1%} of the image, more than {preset.max_share:.1%}"
            skipped.append(Skipped(region, area_visible, reason))
        else:
            whole = area_visible == region.area
            kept.append(Kept(region, region if whole else replace(region, mask=visible)))
    return kept, skipped


def _without_duplicates(ascending: list[Region], preset: Preset) -> tuple[list[Region], list[Skipped]]:
    """Of regions that are the same thing, the one with the best score, else the largest, else the first given."""
    if preset.nms_iou is None and preset.containment is None:
        return ascending, []
    possible = _possible_duplicates(ascending, preset)
    distinct: list[int] = []
    skipped = []
    for place in _best_first(ascending, [region.area for region in ascending]):
        better = (other for other in distinct if possible[place, other])
        sameness = (_sameness(ascending[place], ascending[other], preset) for other in better)
        if reason := next(filter(None, sameness), ""):
            skipped.append(Skipped(ascending[place], 0, reason))
        else:
            distinct.append(place)
    return [ascending[place] for place in sorted(distinct)], skipped


def _possible_duplicates(regions: Sequence[Region], preset: Preset) -> np.ndarray:
    """Which pairs could be duplicates by their boxes and areas alone, bool [n, n]."""
    x, y, width, height = np.array([region.bbox_xywh for region in regions]).T
    area = np.array([region.area for region in regions])
    smaller, larger = np.minimum.outer(area, area), np.maximum.outer(area, area)
    shared_width = np.minimum.outer(x + width, x + width) - np.maximum.outer(x, x)
    shared_height = np.minimum.outer(y + height, y + height) - np.maximum.outer(y, y)
    shared = np.minimum(shared_width.clip(0) * shared_height.clip(0), smaller)
    possible = np.zeros(shared.shape, bool)
    if preset.nms_iou is not None:
        possible |= shared > preset.nms_iou * (smaller + larger - shared)
    if preset.containment is not None:
        possible |= (shared > preset.containment * smaller) & (smaller >= SAME_AREA * larger)
    return possible


def _sameness(region: Region, other: Region, preset: Preset) -> str:
    """Why a region is a duplicate of another; empty when it is none."""
    left, top = max(region.x, other.x), max(region.y, other.y)
    right = min(part.x + part.mask.shape[1] for part in (region, other))
    bottom = min(part.y + part.mask.shape[0] for part in (region, other))
    first, second = (
        part.mask[top - part.y : bottom - part.y, left - part.x : right - part.x] for part in (region, other)
    )
    shared = np.count_nonzero(first & second)
    smaller, larger = sorted([region.area, other.area])
    iou, inside = shared / (smaller + larger - shared), shared / smaller
    if preset.nms_iou is not None and iou > preset.nms_iou:
        return f"a duplicate of {other.title}: IoU {iou:.2f}, more than {preset.nms_iou}"
    if preset.containment is not None and inside > preset.containment and smaller >= SAME_AREA * larger:
        return f"a duplicate of {other.title}: {inside:.0%} of the smaller inside, more than {preset.containment:.0%}"
    return ""


def _best(kept: list[Kept], limit: int | None) -> tuple[list[Kept], list[Skipped]]:
    """The best scores when all regions have one, else those with most pixels left; the order stays."""
    if limit is None or len(kept) <= limit:
        return kept, []
    regions = [item.region for item in kept]
    chosen = set(_best_first(regions, [item.visible.area for item in kept])[:limit])
    better = "have better or equal scores" if _are_scored(regions) else "have more pixels left"
    reason = f"no more than {limit} tags: the others {better}"
    surplus = [
        Skipped(item.region, item.visible.area, reason) for place, item in enumerate(kept) if place not in chosen
    ]
    return [kept[place] for place in sorted(chosen)], surplus


def _best_first(regions: Sequence[Region], areas: Sequence[int]) -> list[int]:
    """Places of regions: by score when all have one, then by area, then as they are given."""
    scored = _are_scored(regions)
    worth = [(region.score if scored else 0, area) for region, area in zip(regions, areas, strict=True)]
    return sorted(range(len(regions)), key=worth.__getitem__, reverse=True)  # which keeps equals in order


def _are_scored(regions: Sequence[Region]) -> bool:
    return all(region.score is not None for region in regions)

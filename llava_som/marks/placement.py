"""Where each tag goes: on the pixel deepest inside the visible part of its region, or as near as other tags allow.

`peak` is the mark allocation of Set-of-Mark (arXiv 2310.11441): centred on that pixel, moved only as far as the frame
demands, over other tags if need be. `apart` never covers a tag: when the deepest pixel is taken it looks deep inside
the same region, then beside it with a leader line; the tag of a region that it would hide goes beside at once, because
then nobody sees what it names. `anchors` labels boxes from outside. A region for which nothing is free gets no mark,
and the others close up: numbers are always 1..n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .anchors import place_on_anchor
from .beside import Sights, place_beside
from .boxes import Box, Point, Size, Taken, as_box, contains, fits, tag_box, tag_boxes
from .depth import deep_points, deepest_point
from .numbering import numbers_of
from .order import Kept, Skipped
from .presets import Preset
from .region import Region
from .tags import TagStyle, label_of, tag_size, tag_style

_MOST_HIDDEN = 0.75  # of a region below its tag; with more, the tag goes beside it
Place = tuple[Box, Box | None]  # a tag's box and its leader line


@dataclass(frozen=True)
class Mark:
    """One number on one region.

    Args:
        id: 1, 2, 3, ... without a gap.
        label: the text that is drawn.
        region: the whole region.
        visible: the part of it that no smaller region covers.
        point_xy: the deepest pixel of the visible part.
        tag_box_xyxy: left, top, right, bottom of the tag (right and bottom exclusive).
        leader_xyxy: from a pixel of the visible part to the tag, when the tag lies beside it.
    """

    id: int
    label: str
    region: Region
    visible: Region
    point_xy: tuple[int, int]
    tag_box_xyxy: tuple[int, int, int, int]
    leader_xyxy: tuple[int, int, int, int] | None = None

    @property
    def bbox_xywh(self) -> tuple[int, int, int, int]:
        """The whole region's box."""
        return self.region.bbox_xywh


@dataclass(frozen=True)
class Spot:
    """A region that waits for its tag, and the tag's size."""

    item: Kept
    point: Point
    size: Size


def place_marks(kept: Sequence[Kept], preset: Preset, seed: int = 0) -> tuple[list[Mark], list[Skipped]]:
    """Number the regions and find each tag's place.

    Args:
        kept: the regions to mark, smallest first.
        preset: how they are numbered and where tags may go.
        seed: seed of the run; only a shuffled numbering depends on it.

    Returns:
        The marks by number, and the regions for whose tag there was no room, smallest first.
    """
    if not kept:
        return [], []
    image_size = kept[0].region.image_size
    style = tag_style(preset, image_size)
    waiting, skipped = [(item, deepest_point(item.visible)) for item in kept], []
    while True:  # whoever finds no room leaves, which changes the numbers and with them the tags' sizes
        regions, points = [item.region for item, _ in waiting], [point for _, point in waiting]
        numbers = numbers_of(regions, points, preset, seed, style.font_px)
        labels = [label_of(number, preset) for number in numbers]
        spots = [Spot(*pair, tag_size(label, style)) for pair, label in zip(waiting, labels, strict=True)]
        places = _place(spots, style, preset, image_size)
        left_out = [spot for spot, place in zip(spots, places, strict=True) if place is None]
        if not left_out:
            break
        skipped += [Skipped(spot.item.region, spot.item.visible.area, _no_room(spot, image_size)) for spot in left_out]
        waiting = [pair for pair, place in zip(waiting, places, strict=True) if place is not None]
    marks = [
        Mark(number, label, spot.item.region, spot.item.visible, spot.point, *place)
        for number, label, spot, place in zip(numbers, labels, spots, places, strict=True)
        if place is not None
    ]
    return sorted(marks, key=lambda mark: mark.id), sorted(skipped, key=lambda item: item.region.area)


def _place(spots: Sequence[Spot], style: TagStyle, preset: Preset, image_size: Size) -> list[Place | None]:
    if preset.placement == "peak" or "mark" not in preset.draw:  # a tag that is not drawn is in nobody's way
        return [(tag_box(spot.point, spot.size, image_size), None) for spot in spots]
    layout = _Layout(spots, style, preset, image_size)
    places = [layout.at_home(index) for index in range(len(spots))]
    return [place or layout.beside(index) for index, place in enumerate(places)]


class _Layout:
    """Tags that keep apart. Those that belong on their region, or at its box, come first: they have less choice."""

    def __init__(self, spots: Sequence[Spot], style: TagStyle, preset: Preset, image_size: Size) -> None:
        self.spots, self.style, self.preset, self.image_size = spots, style, preset, image_size
        self.taken = Taken(len(spots), style.gap)
        self.bounds = np.array([_bounds(spot.item.region) for spot in spots])
        self.sights = Sights(np.array([spot.point for spot in spots]))

    def at_home(self, index: int) -> Place | None:
        """A free place on the region, or at its box; claimed."""
        box = self._anchor(index) if self.preset.placement == "anchors" else self._inside(index)
        return self._claim(box, None) if box else None

    def beside(self, index: int) -> Place | None:
        """A free place near the region; claimed. Its line begins at the deepest pixel that no tag covers.

        Of a region smaller than its tag, what lies around that pixel stays uncovered; of others the pixel alone.
        """
        spot = self.spots[index]
        points = np.array([spot.point, *deep_points(spot.item.visible, max(1, min(spot.size) // 4))])
        begin = points[contains(self.taken.boxes, points).any(axis=0).argmin()]
        reach = np.array(spot.size) // 2 if self._is_small(spot) else np.zeros(2, int)
        low = np.maximum(begin - reach, self.bounds[index, :2])
        high = np.minimum(begin + reach + 1, self.bounds[index, 2:])
        clear = np.concatenate([low, high])
        found = place_beside(begin, clear, spot.size, self.image_size, self.taken, self.sights, 2 * self.style.gap)
        if found is None:
            return None
        self.sights.add_line(found[1])
        return self._claim(*found)

    def _inside(self, index: int) -> Box | None:
        """On the deepest pixel, or else as deep inside as a place is free; None for a region smaller than its tag."""
        spot = self.spots[index]
        if not fits(spot.size, self.image_size) or self._is_small(spot):
            return None
        box = tag_box(spot.point, spot.size, self.image_size)
        if self.taken.free(np.array([box]))[0]:
            return box
        boxes = tag_boxes(deep_points(spot.item.visible, min(spot.size) // 2), spot.size, self.image_size)
        free = boxes[self.taken.free(boxes)]
        return as_box(free[0]) if len(free) else None

    def _anchor(self, index: int) -> Box | None:
        box, others = as_box(self.bounds[index]), np.delete(self.bounds, index, axis=0)
        return place_on_anchor(box, others, self.spots[index].size, self.image_size, self.taken)

    def _is_small(self, spot: Spot) -> bool:
        """Whether the region is smaller than its tag, or the tag would hide nearly all of it."""
        if spot.item.visible.area < self.preset.tag_fit * spot.size[0] * spot.size[1]:
            return True
        hidden = _pixels_in(spot.item.visible, tag_box(spot.point, spot.size, self.image_size))
        return self.preset.tag_fit > 0 and hidden > _MOST_HIDDEN * spot.item.visible.area

    def _claim(self, box: Box, leader: Box | None) -> Place:
        self.taken.add(box)
        return box, leader


def _pixels_in(region: Region, box: Box) -> int:
    left, top = max(box[0] - region.x, 0), max(box[1] - region.y, 0)
    return int(np.count_nonzero(region.mask[top : box[3] - region.y, left : box[2] - region.x]))


def _bounds(region: Region) -> Box:
    x, y, width, height = region.bbox_xywh
    return x, y, x + width, y + height


def _no_room(spot: Spot, image_size: Size) -> str:
    tag = f"its tag of {spot.size[0]}x{spot.size[1]} pixels"
    if not fits(spot.size, image_size):
        return f"{tag} is larger than the image, {image_size[0]}x{image_size[1]}: set font_px or raise model_input_side"
    return f"no free place on it or near it for {tag}"

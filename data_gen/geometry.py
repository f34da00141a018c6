"""What is certain about where the marked things lie, from the sidecar alone: no model, no opinion.

A relation holds here only with a margin, so that nobody who looks at the picture would say otherwise: "left of" means
that the boxes do not even overlap sideways and that their centres are well apart. What is not certain is not said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord, RecordedMark

Direction = Literal["left", "right", "above", "below"]
OPPOSITE: dict[Direction, Direction] = {"left": "right", "right": "left", "above": "below", "below": "above"}
_AXIS: dict[Direction, int] = {"left": 0, "right": 0, "above": 1, "below": 1}
_FORWARD: frozenset[Direction] = frozenset({"left", "above"})  # towards smaller coordinates

INTERACTIVE = "interactive"  # the attribute by which sources mark what can be clicked on a screen
MARGIN = 0.1  # of a side of the picture (for distances, of the shorter one)
SIZE_RATIO = 1.5
_BLOCK = 4  # distances are measured between blocks of this many pixels


@dataclass(frozen=True, eq=False)
class Thing:
    """A region as questions see it: its tag, name, attributes, box (left, top, right, bottom) and pixels."""

    mark: RecordedMark

    @property
    def label(self) -> str:
        """What its tag says."""
        return self.mark.label

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom; right and bottom exclusive."""
        x, y, width, height = self.mark.bbox_xywh
        return x, y, x + width, y + height

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @cached_property
    def blocks(self) -> np.ndarray:
        """Which blocks of the picture hold a pixel of it, bool [ceil(H/4), ceil(W/4)]."""
        mask = self.mark.region().full_mask()
        padded = np.pad(mask, [(0, -side % _BLOCK) for side in mask.shape])
        height, width = (side // _BLOCK for side in padded.shape)
        return np.asarray(padded.reshape(height, _BLOCK, width, _BLOCK).any(axis=(1, 3)))

    @cached_property
    def distances(self) -> np.ndarray:
        """How many blocks each block is away from the nearest one of `blocks`, float32 of the same shape."""
        import cv2

        return cv2.distanceTransform((~self.blocks).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


@dataclass(frozen=True, eq=False)
class Layout:
    """The things of one picture of (width, height) pixels, and the relations between them that are certain."""

    size: tuple[int, int]
    things: tuple[Thing, ...]

    @classmethod
    def of(cls, record: MarkRecord) -> Layout:
        """The marks of a sidecar."""
        return cls(record.size, tuple(Thing(mark) for mark in record.marks))

    def lies(self, thing: Thing, direction: Direction, other: Thing) -> bool:
        """Whether `thing` certainly lies left of (right of, above, below) `other` in the picture."""
        axis = _AXIS[direction]
        first, second = (thing, other) if direction in _FORWARD else (other, thing)
        apart = second.centre[axis] - first.centre[axis] > MARGIN * self.size[axis]
        return apart and first.box[axis + 2] <= second.box[axis]

    def lies_not(self, thing: Thing, direction: Direction, other: Thing) -> bool:
        """Whether nobody would say so: the centre of `thing` is on the other side, or level."""
        axis, sign = _AXIS[direction], -1 if direction in _FORWARD else 1
        return sign * (thing.centre[axis] - other.centre[axis]) <= 0

    def directions(self, thing: Thing, other: Thing) -> list[Direction]:
        """Every direction in which `thing` certainly lies, seen from `other`."""
        return [direction for direction in OPPOSITE if self.lies(thing, direction, other)]

    def in_order(self, things: Sequence[Thing], direction: Direction) -> list[Thing] | None:
        """The things from the one that lies farthest in that direction on; None where two are about level."""
        axis = _AXIS[direction]
        ordered = sorted(things, key=lambda thing: thing.centre[axis], reverse=direction not in _FORWARD)
        certain = all(self.lies(a, direction, b) for a, b in pairwise(ordered))
        return ordered if certain else None

    def farthest(self, things: Sequence[Thing], direction: Direction) -> Thing | None:
        """The one of several things that lies in that direction from each of the others."""
        axis = _AXIS[direction]
        choose = min if direction in _FORWARD else max
        found = choose(things, key=lambda thing: thing.centre[axis])
        return found if all(self.lies(found, direction, other) for other in things if other is not found) else None

    def is_larger(self, thing: Thing, other: Thing) -> bool:
        """Whether `thing` certainly covers more of the picture: by its pixels and by its box, half as much again."""
        (left, top, right, bottom), (x, y, x2, y2) = thing.box, other.box
        boxes = (right - left) * (bottom - top) >= SIZE_RATIO * (x2 - x) * (y2 - y)
        return boxes and thing.mark.area >= SIZE_RATIO * other.mark.area

    def largest(self, things: Sequence[Thing]) -> Thing | None:
        """The one that covers more of the picture than each of the others."""
        found = max(things, key=lambda thing: thing.mark.area)
        return found if all(self.is_larger(found, other) for other in things if other is not found) else None

    def smallest(self, things: Sequence[Thing]) -> Thing | None:
        """The one that each of the others is larger than."""
        found = min(things, key=lambda thing: thing.mark.area)
        return found if all(self.is_larger(other, found) for other in things if other is not found) else None

    def nearest(self, things: Sequence[Thing], to: Thing) -> Thing | None:
        """The one of `things` that is certainly nearest: its centre by a margin, and no other leaves a smaller gap."""
        others = [thing for thing in things if thing is not to]
        if not others:
            return None
        found = min(others, key=lambda thing: math.dist(thing.centre, to.centre))
        limit = math.dist(found.centre, to.centre) + MARGIN * min(self.size)
        rest = [thing for thing in others if thing is not found]
        if any(math.dist(thing.centre, to.centre) <= limit for thing in rest):
            return None
        closest = self.gap(found, to)
        return found if all(self.gap(thing, to) >= closest for thing in rest) else None

    def gap(self, thing: Thing, other: Thing) -> float:
        """Pixels between the two masks where they come closest, to within two blocks; 0 where they touch."""
        return _BLOCK * max(0.0, float(other.distances[thing.blocks].min()) - 1)


def tags_are_on_things(record: MarkRecord) -> bool:
    """Whether every tag lies on the thing it stands for, and not beside it or at the corner of its box."""
    if record.preset.placement == "anchors":
        return False
    for mark in record.marks:
        (x, y, width, height), (left, top, right, bottom) = mark.bbox_xywh, mark.tag_box_xyxy
        if not (2 * x <= left + right <= 2 * (x + width) and 2 * y <= top + bottom <= 2 * (y + height)):
            return False
    return not any(mark.leader_xyxy for mark in record.marks)


def is_screen(record: MarkRecord) -> bool:
    """Whether the regions are elements of a screen or page, whose names are texts on them and no class names."""
    return any(INTERACTIVE in region.attributes for region in (*record.marks, *record.skipped))

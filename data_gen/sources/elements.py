"""Elements of a screenshot, and the clean-up from everything a dump holds to what a person would point at.

Detectors and view hierarchies report one button several times: as a wrapper, as an icon, as the text on it. The rules
for overlapping boxes are those of OmniParser (arXiv 2408.00203 and its released code): of two that overlap, the smaller
stays; text on an icon becomes the icon's name; an icon seen inside a line of text is part of the text.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from data_gen.sources.base import FARTHEST
from llava_som.marks.region import Region, pixel_span

Box = tuple[float, float, float, float]  # left, top, width, height
Role = Literal["box", "text", "icon", "control", "image", "container"]

SCREEN_OVERLAP = 0.7  # the usual limit for elements of a screen; plain boxes are kept
INSIDE = 0.8  # a box is inside another with more than this share of its area (OmniParser)
ACTIVE = frozenset({"icon", "control"})


@dataclass(frozen=True)
class Canvas:
    """What boxes were measured in, where that is not the pixels of the image.

    Attributes:
        width: of the canvas; the image's width corresponds to it.
        height: of the canvas; None: pixels are square, so the width decides (a page longer than its window).
        same_shape: whether an image of another aspect ratio is an error.
    """

    width: float
    height: float | None = None
    same_shape: bool = False

    def __post_init__(self) -> None:
        if not all(1 <= side < FARTHEST for side in (self.width, 1 if self.height is None else self.height)):
            raise ValueError(f"a screen of {self.width} x {self.height} cannot be: sizes are at least 1.")

    def scale(self, image_size: tuple[int, int]) -> tuple[float, float]:
        """Image pixels for one unit of the canvas, along x and y."""
        across = image_size[0] / self.width
        down = across if self.height is None else image_size[1] / self.height
        if self.same_shape and abs(across / down - 1) > 0.02:
            raise ValueError(
                f"the dump covers {self.width:g}x{self.height:g}, the image {image_size[0]}x{image_size[1]}: not the "
                "same part of the screen. Say what the boxes were measured in: canvas=[WIDTH,HEIGHT]."
            )
        return across, down


SHARES = Canvas(1, 1)  # of the image's width and height


@dataclass(frozen=True)
class Element:
    """One entry of a file of boxes.

    Attributes:
        id: its number in the file.
        box: left, top, width and height; in pixels of the image, or in units of `canvas`. None: see `segmentation`.
        name: what it says or is called.
        attributes: its kind ("icon", "button", "TextView"), and "interactive" where it can be used; or the file's own.
        role: what the clean-up takes it for; "box" is left as it is.
        canvas: what the box was measured in; None: the pixels of the image.
        segmentation: COCO polygons or RLE; then they are the region, not the box.
        mask: the region that the segmentation describes, once the image is known.
    """

    id: str
    box: Box | None
    name: str | None = None
    attributes: tuple[str, ...] = ()
    score: float | None = None
    role: Role = "box"
    canvas: Canvas | None = None
    segmentation: Any = None
    mask: Region | None = None

    @property
    def interactive(self) -> bool:
        """Whether it can be clicked or filled in, as far as the file says."""
        return "interactive" in self.attributes

    def in_pixels(self, image_size: tuple[int, int], canvas: Canvas | None = None) -> Element:
        """The element with its box in pixels of the image; `canvas` overrules its own, unless that is shares."""
        canvas = canvas if canvas and self.canvas != SHARES else self.canvas
        if canvas is None or self.box is None:
            return self
        across, down = canvas.scale(image_size)
        x, y, width, height = self.box
        return replace(self, box=(x * across, y * down, width * across, height * down), canvas=None)


def checked_box(numbers: Any) -> Box:
    """A list of four numbers, none of them infinite or far away; a ValueError when they are not."""
    try:
        x, y, width, height = map(float, numbers)
        if all(abs(number) < FARTHEST for number in (x, y, width, height)):
            return x, y, width, height
    except (ValueError, TypeError, OverflowError):
        pass
    raise ValueError(f"{reprlib.repr(numbers)} is no box of four numbers")


def is_outside(box: Box, image_size: tuple[int, int]) -> bool:
    """Whether no pixel of the image belongs to the box."""
    sides = zip(box[:2], box[2:], image_size, strict=True)
    return any(first >= stop for first, stop in (pixel_span(*side) for side in sides))


def visible_sides(box: Box, image_size: tuple[int, int]) -> tuple[float, float]:
    """Width and height of what the image shows of the box."""
    width, height = (
        min(start + length, limit) - max(start, 0.0)
        for start, length, limit in zip(box[:2], box[2:], image_size, strict=True)
    )
    return width, height


def without_wrappers(elements: Sequence[Element]) -> list[Element]:
    """Without what only holds other elements: layout, and text whose every word belongs to an element inside it."""
    corners = corners_of(elements)
    area = areas(corners)
    words = [Counter((element.name or "").split()) for element in elements]
    kept = []
    for index, element in enumerate(elements):
        if element.role in ("container", "text"):
            held = (intersections(corners[index], corners) > INSIDE * area) & (area <= area[index])
            held[index] = False
            inside = [words[other] for other in np.flatnonzero(held)]
            if inside and not words[index] - sum(inside, Counter()):
                continue
        kept.append(element)
    return kept


def without_overlaps(elements: Sequence[Element], limit: float | None) -> list[Element]:
    """Of two elements of one kind that overlap by more than `limit`, the smaller; of equal ones, the first.

    The overlap is the share of the smaller box: OmniParser's larger of that and the intersection over the union, which
    is never more. Without a limit it is SCREEN_OVERLAP, and plain boxes all stay.
    """
    corners = corners_of(elements)
    area = areas(corners)
    kinds = ["control" if element.role in ACTIVE else element.role for element in elements]
    group = np.unique(kinds, return_inverse=True)[1]
    kept = np.array([limit is None and kind == "box" for kind in kinds], dtype=bool)
    for index in np.argsort(area, kind="stable"):
        if kept[index]:
            continue
        rivals = np.flatnonzero(kept & (group == group[index]))
        shared = intersections(corners[index], corners[rivals])
        most = SCREEN_OVERLAP if limit is None else limit
        kept[index] = not (shared > most * np.minimum(area[rivals], area[index])).any()
    return [element for element, stays in zip(elements, kept, strict=True) if stays]


def joined_to_icons(elements: Sequence[Element]) -> list[Element]:
    """Text and pictures inside an icon or control become its name; an icon inside a text belongs to the text."""
    corners = corners_of(elements)
    area = areas(corners)
    parts = np.array([element.role in ("text", "image") for element in elements])
    text = np.array([element.role == "text" for element in elements])
    absorbed = np.zeros(len(elements), bool)
    found = list(elements)
    for index, element in enumerate(elements):
        if element.role not in ACTIVE:
            continue
        shared = intersections(corners[index], corners)
        inside = np.flatnonzero(parts & ~absorbed & (shared > INSIDE * area))
        if inside.size:
            absorbed[inside] = True
            words = " ".join(name for part in inside if (name := elements[part].name))
            found[index] = replace(element, name=element.name or words or None)
        elif element.role == "icon" and (shared[text] > INSIDE * area[index]).any():
            absorbed[index] = True
    return [element for element, gone in zip(found, absorbed, strict=True) if not gone]


def joined_texts(elements: Sequence[Element], gap: float) -> list[Element]:
    """Texts side by side or one above the other, at most `gap` pixels apart, as one text; and chains of them.

    The joined text stands where its first part stood, and reads from top to bottom and from left to right.
    """
    texts = [index for index, element in enumerate(elements) if element.role == "text"]
    corners = corners_of([elements[index] for index in texts])
    unseen = np.ones(len(texts), bool)
    joined: dict[int, Element] = {}
    for start in range(len(texts)):
        if not unseen[start]:
            continue
        unseen[start] = False
        chain = [start]
        for member in chain:  # grows while it is walked
            close = np.flatnonzero(unseen & neighbours(corners[member], corners, gap))
            unseen[close] = False
            chain += close.tolist()
        members = in_reading_order(chain, corners)
        joined[texts[min(chain)]] = one_text([elements[texts[member]] for member in members], corners[members])
    others = {index: element for index, element in enumerate(elements) if element.role != "text"}
    return [element for _, element in sorted((others | joined).items())]


def one_text(parts: Sequence[Element], corners: np.ndarray) -> Element:
    """Several texts, in reading order, as one around their boxes [n, 4]."""
    left, top, right, bottom = *corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist()
    words = " ".join(part.name for part in parts if part.name)
    return replace(parts[0], box=(left, top, right - left, bottom - top), name=words or None)


def in_reading_order(members: Sequence[int], corners: np.ndarray) -> list[int]:
    """Indices into boxes [n, 4] line by line; a box is on a line when its middle is above the bottom of the first."""
    middle = corners[:, 1] + corners[:, 3]  # doubled
    lines: list[list[int]] = []
    for member in sorted(members, key=lambda member: middle[member]):
        if lines and middle[member] < 2 * corners[lines[-1][0], 3]:
            lines[-1].append(member)
        else:
            lines.append([member])
    return [member for line in lines for member in sorted(line, key=lambda member: corners[member, 0])]


def neighbours(box: np.ndarray, others: np.ndarray, gap: float) -> np.ndarray:
    """Which of `others` [n, 4] lie beside, above or below `box` [4] at most `gap` away, or on it: bool [n]."""
    away = np.maximum(box[:2] - others[:, 2:], others[:, :2] - box[2:])  # along x and y; below 0 they share a stretch
    return (away.max(axis=1) <= gap) & (away.min(axis=1) < 0)


def corners_of(elements: Sequence[Element]) -> np.ndarray:
    """[n, 4] left, top, right, bottom."""
    boxes = np.array([element.box for element in elements], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def areas(corners: np.ndarray) -> np.ndarray:
    """Areas [n] of boxes [n, 4] given by their corners."""
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])


def intersections(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area [n] that `box` [4] shares with each of `others` [n, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.prod(np.maximum(sides, 0.0), axis=1)

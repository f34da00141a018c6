"""A region of an image: a mask cut to its bounding box, where the cut sits, and what is known about it.

Every source of regions (annotation files, segmenters, boxes, drawn scenes) ends here. Only the crop is stored, so the
memory and time of everything that follows grow with the area of the regions, not with image area times their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict, Unpack

import numpy as np

from .rle import Rle, decode_rle


class RegionInfo(TypedDict, total=False):
    """What a source may know about a region besides its pixels."""

    name: str | None
    score: float | None
    source: str
    id: str | None
    attributes: tuple[str, ...]
    trace: tuple[tuple[float, float], ...]
    unfit: str


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of one thing in one image. The crop is copied, cut to the pixels that are set, and read-only.

    Args:
        x: column of the crop's left edge in the image, pixels.
        y: row of the crop's top edge.
        mask: the crop, bool (or integers, where non-zero is inside) [h, w].
        image_size: (width, height) of the whole image.
        name: class or phrase, when the source knows it.
        score: the source's confidence, when it has one.
        source: which source made it ("coco", "sam", ...).
        id: the source's own identifier, such as an annotation id.
        attributes: words that hold for it ("red", "striped"), when the source knows any.
        unfit: why it must never get a mark ("a crowd"); it is then only known to be there. Empty: it may get one.
        trace: where its point is in this frame of a video and in those that follow, x and y in pixels.

    Raises:
        ValueError: an empty mask, a mask that is not a 2-D yes/no array, a crop that leaves the image.
    """

    x: int
    y: int
    mask: np.ndarray
    image_size: tuple[int, int]
    name: str | None = None
    score: float | None = None
    source: str = "user"
    id: str | None = None
    attributes: tuple[str, ...] = ()
    trace: tuple[tuple[float, float], ...] = ()
    unfit: str = ""

    def __post_init__(self) -> None:
        import cv2  # here, because the sources of `--help` import this module, and need no OpenCV

        object.__setattr__(self, "image_size", tuple(self.image_size))
        mask = _as_bool(self.mask, self.title)
        left, top, columns, rows = cv2.boundingRect(mask.view(np.uint8)) if mask.size else (0, 0, 0, 0)
        if not rows:
            raise ValueError(f"{self.title} has an empty mask: no pixel is set. Leave such a region out.")
        height, width = mask.shape
        if self.x < 0 or self.y < 0 or self.x + width > self.image_size[0] or self.y + height > self.image_size[1]:
            raise ValueError(
                f"{self.title} covers columns {self.x}..{self.x + width} and rows {self.y}..{self.y + height}, "
                f"outside its image of {_size_text(self.image_size)}. Cut it to the image first."
            )
        tight = np.array(mask[top : top + rows, left : left + columns], order="C")
        tight.setflags(write=False)
        object.__setattr__(self, "mask", tight)
        object.__setattr__(self, "x", int(self.x + left))
        object.__setattr__(self, "y", int(self.y + top))

    @classmethod
    def from_mask(cls, mask: np.ndarray, **info: Unpack[RegionInfo]) -> Region:
        """Region from a mask of the whole image, bool or 0/non-zero integers [H, W]."""
        mask = np.asarray(mask)
        height, width = mask.shape if mask.ndim == 2 else (0, 0)
        return cls(0, 0, mask, (width, height), **info)

    @classmethod
    def from_box(cls, xywh: Sequence[float], image_size: tuple[int, int], **info: Unpack[RegionInfo]) -> Region:
        """Region of a whole box (x, y, width, height, pixels), rounded to pixels and cut to the image of (W, H)."""
        title = f"Box {list(xywh)}"
        if len(xywh) != 4 or not all(math.isfinite(value) for value in xywh) or min(xywh[2:]) <= 0:
            raise ValueError(f"{title} is not [x, y, width, height] with a positive width and height, in pixels.")
        left, right = pixel_span(xywh[0], xywh[2], image_size[0])
        top, bottom = pixel_span(xywh[1], xywh[3], image_size[1])
        if left >= right or top >= bottom:
            raise ValueError(f"{title} lies outside its image of {_size_text(image_size)}.")
        return cls(left, top, np.ones((bottom - top, right - left), bool), image_size, **info)

    @classmethod
    def from_rle(cls, rle: Rle, **info: Unpack[RegionInfo]) -> Region:
        """Region from COCO run-length encoding of the whole image, compressed or a plain list of counts."""
        return cls.from_mask(decode_rle(rle), **info)

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def bbox_xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width, height in pixels; tight."""
        return self.x, self.y, self.mask.shape[1], self.mask.shape[0]

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the crop in an array of the whole image."""
        return slice(self.y, self.y + self.mask.shape[0]), slice(self.x, self.x + self.mask.shape[1])

    def full_mask(self) -> np.ndarray:
        """The mask of the whole image, bool [H, W]."""
        full = np.zeros(self.image_size[::-1], bool)
        full[self.window] = self.mask
        return full

    def resized(self, size: tuple[int, int]) -> Region:
        """The region in the image resized to `size` = (W, H): nearest neighbour, so disjoint regions stay disjoint.

        A region too small to be hit by any pixel centre keeps the one pixel under its own centre.
        """
        if size == self.image_size:
            return self
        x, columns = _sampled(self.x, self.mask.shape[1], self.image_size[0], size[0])
        y, rows = _sampled(self.y, self.mask.shape[0], self.image_size[1], size[1])
        mask = self.mask[np.ix_(rows, columns)]
        if not mask.any():
            x = (2 * self.x + self.mask.shape[1]) * size[0] // (2 * self.image_size[0])
            y = (2 * self.y + self.mask.shape[0]) * size[1] // (2 * self.image_size[1])
            mask = np.ones((1, 1), bool)
        wider, higher = size[0] / self.image_size[0], size[1] / self.image_size[1]
        trace = tuple((wider * at_x, higher * at_y) for at_x, at_y in self.trace)
        return replace(self, x=x, y=y, mask=mask, image_size=size, trace=trace)

    @property
    def title(self) -> str:
        """How an error calls this region."""
        known = [repr(value) for value in (self.name, self.id) if value is not None]
        return " ".join(["Region", *known, f"(source {self.source})"])


def _as_bool(mask: np.ndarray, title: str) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"{title} needs a mask of shape [height, width], not {list(mask.shape)}.")
    if mask.dtype != bool and not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f"{title} needs a yes/no mask, not {mask.dtype}. Compare it with a threshold first.")
    return np.ascontiguousarray(mask, bool)


def pixel_span(start: float, length: float, limit: int) -> tuple[int, int]:
    """First and last+1 pixel of an interval: edges rounded, at least one pixel wide, cut to 0..limit."""
    first = math.floor(start + 0.5)
    last = max(math.floor(start + length + 0.5), first + 1)
    return max(first, 0), min(last, limit)


def _sampled(start: int, length: int, old: int, new: int) -> tuple[int, np.ndarray]:
    """Which crop indices the pixel centres of a resized axis fall on, and the first of those pixels."""
    origin = (2 * np.arange(new) + 1) * old // (2 * new) - start
    hit = np.flatnonzero((origin >= 0) & (origin < length))
    return (int(hit[0]) if hit.size else 0), origin[hit]


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"

"""Filled masks and boundaries, all regions in one blend over the image.

Every pixel belongs to one region at most: where masks overlap, to the smallest, as in the subtraction of masks. So one
map of regions is painted, instead of one blend for each mask, and the boundaries are where the map changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from .region import Region

Rgb = tuple[int, int, int]
_ROWS = 64  # painted at a time: the memory of one strip serves the next, and fresh memory is what costs most here


def paint_regions(
    image: Image.Image,
    regions: Sequence[Region],
    colours: Sequence[Rgb],
    opacity: float | None,
    boundary_width: int | None,
) -> None:
    """Paint regions on an RGB image.

    Args:
        image: what is painted on.
        regions: what to paint.
        colours: one for each region.
        opacity: of the fill, 0 to 1; None for no fill.
        boundary_width: pixels of each region, from its edge inwards, that are opaque; None for no boundary.
    """
    owners, palette = _owners(regions, colours, image.size)
    weight = round(255 * (opacity or 0)) / 255  # as in an 8-bit mask
    for top in range(0, image.height, _ROWS):
        owner = owners[top : top + _ROWS]
        strip = _pixels(image.crop((0, top, image.width, top + len(owner))))
        colour = np.take(palette, owner).view(np.uint8).reshape(strip.shape)
        painted = strip.copy() if opacity is None else cv2.addWeighted(strip, 1 - weight, colour, weight, 0)
        if boundary_width is not None:
            cv2.copyTo(colour, _edges(owners, top, boundary_width).view(np.uint8), painted)
        cv2.copyTo(strip, (owner == 0).view(np.uint8), painted)
        image.paste(Image.fromarray(painted), (0, top))


def _pixels(image: Image.Image) -> np.ndarray:
    """An RGB image as Pillow keeps it, four bytes for each pixel [h, w, 4]: as three they would have to be repacked."""
    return np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8).reshape(image.height, image.width, 4)


def _owners(regions: Sequence[Region], colours: Sequence[Rgb], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The region of each pixel, counted from the largest, or 0, and the colour of each number.

    So the smallest of several regions is the one with the largest number.

    Returns:
        uint8 or uint16 [H, W], and the four bytes of each colour as one number, uint32 [regions + 1].
    """
    falling = sorted(range(len(regions)), key=lambda place: -regions[place].area)
    owner = np.zeros(size[::-1], np.uint8 if len(regions) < 256 else np.uint16)
    for number, place in enumerate(falling, start=1):
        part = owner[regions[place].window]
        np.maximum(part, regions[place].mask.view(np.uint8) * owner.dtype.type(number), out=part)
    palette = [(0, 0, 0, 255), *((*colours[place], 255) for place in falling)]
    return owner, np.array(palette, np.uint8).view(np.uint32)[:, 0]


def _edges(owners: np.ndarray, top: int, width: int) -> np.ndarray:
    """Where a strip of the map holds pixels with another region, or the end of the image, so near: bool [rows, W]."""
    above = max(0, top - width)
    part = owners[above : top + _ROWS + width]
    window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    found = cv2.morphologyEx(part, cv2.MORPH_GRADIENT, window) > 0  # the largest near it is not the smallest
    found[:, :width] = found[:, -width:] = True
    if top < width:
        found[: width - above] = True
    if above + len(part) == len(owners):
        found[-width:] = True
    return found[top - above :][: min(_ROWS, len(owners) - top)]

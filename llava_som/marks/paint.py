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
_ROWS = 128  # painted at a time: the memory of one strip serves the next, and fresh memory is what costs most here


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
    owners = _owners(regions, image.size)
    for top in range(0, image.height, _ROWS):
        owner = owners[top : top + _ROWS]
        inside = owner > 0
        alpha = inside * np.uint8(round(255 * (opacity or 0)))
        if boundary_width is not None:
            alpha[inside & _edges(owners, top, boundary_width)] = 255
        image.paste(_coloured(owner, colours), (0, top), Image.fromarray(alpha))


def _owners(regions: Sequence[Region], size: tuple[int, int]) -> np.ndarray:
    """The region of each pixel, counted from 1, or 0: uint8 or uint16 [H, W]."""
    owner = np.zeros(size[::-1], np.uint8 if len(regions) < 256 else np.uint16)
    for place in sorted(range(len(regions)), key=lambda place: -regions[place].area):
        np.copyto(owner[regions[place].window], place + 1, where=regions[place].mask)
    return owner


def _edges(owners: np.ndarray, top: int, width: int) -> np.ndarray:
    """Where a strip of the map holds pixels with another region, or the end of the image, so near: bool [rows, W]."""
    above = max(0, top - width)
    part = owners[above : top + _ROWS + width]
    window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    found = cv2.dilate(part, window) != part
    found |= cv2.erode(part, window) != part
    found[:, :width] = found[:, -width:] = True
    if top < width:
        found[: width - above] = True
    if above + len(part) == len(owners):
        found[-width:] = True
    return found[top - above :][: min(_ROWS, len(owners) - top)]


def _coloured(owner: np.ndarray, colours: Sequence[Rgb]) -> Image.Image:
    """The map with each region in its colour."""
    table = np.array([(0, 0, 0), *colours], np.uint8)
    if owner.dtype != np.uint8:
        return Image.fromarray(np.take(table, owner, axis=0))
    indexed = Image.fromarray(owner)
    indexed.putpalette(table.tobytes())
    return indexed.convert("RGB")

"""Boxes written in text, `<bbox>x1,y1,x2,y2</bbox>`, as mPLUG-DocOwl 1.5 does (arXiv 2403.12895, section 3.2).

The numbers are whole thousandths of the image, 0 to 999, never pixels: x counts from the left edge in units of
width / 999, y from the top in units of height / 999, whatever size or tiling the model sees. So

    pixels -> text   round(999 * x / width), kept between 0 and 999
    text -> pixels   x / 999 * width, as the published evaluation decodes (so 999 is the right edge itself)

A box comes back within half a unit of where it was, which is 0.05 % of the side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LARGEST = 999
Shares = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the image's width and height, 0 to 1."""

_FOUR = r"\s*,\s*".join(4 * [r"(-?[0-9]+)"])
_BOX = re.compile(rf"<bbox>\s*{_FOUR}\s*</bbox>")
_ALONE = re.compile(rf"\s*(?:<bbox>)?\s*{_FOUR}\s*(?:</bbox>)?\s*")


def encode_box(box: Sequence[float], size: tuple[int, int]) -> str:
    """A box as text.

    Args:
        box: left, top, right, bottom in pixels; what lies outside the image is moved to its edge.
        size: (width, height) of the image those pixels belong to.

    Raises:
        ValueError: an image without pixels, or a box whose sides are in the wrong order.
    """
    if min(size) < 1:
        raise ValueError(f"size={tuple(size)}: give width and height of the image in pixels, at least 1 each.")
    left, top, right, bottom = box
    if left > right or top > bottom:
        raise ValueError(f"box={tuple(box)}: give left, top, right, bottom, with left <= right and top <= bottom.")
    numbers = (min(LARGEST, max(0, round(LARGEST * at / side))) for at, side in zip(box, (*size, *size), strict=True))
    return f"<bbox>{','.join(map(str, numbers))}</bbox>"


def decode_boxes(text: str, size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """Every box written in a text, as left, top, right, bottom in pixels of an image of this (width, height).

    A number above 999 counts as 999, one below 0 as 0; what is not a box of four whole numbers is no box.
    """
    width, height = size
    boxes = (_shares(match) for match in _BOX.finditer(text))
    return [(left * width, top * height, right * width, bottom * height) for left, top, right, bottom in boxes]


def sole_box(text: str) -> Shares | None:
    """The box that a text consists of, with or without its tags, as shares of the image; None if it is anything else.

    This is how answers are scored: words around the box, or a second one, are no answer.
    """
    match = _ALONE.fullmatch(text)
    return _shares(match) if match else None


def _shares(match: re.Match[str]) -> Shares:
    left, top, right, bottom = (min(LARGEST, max(0, int(number))) / LARGEST for number in match.groups())
    return left, top, right, bottom

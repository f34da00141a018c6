"""Drawing the tags. Nothing but the tags changes: the picture below them stays the photo the model will see.

A tag is drawn once per label and preset and then pasted, so an image costs one copy plus a few hundred pixels per mark.
The font is the one embedded in Pillow: no font file, the same pixels on every machine with the same Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from llava_som.images import ImageError

from .presets import Preset

LONGEST_SIDE = 65_500  # what a JPEG file can hold


class Tag(Protocol):
    """What drawing needs to know; marks and their records both offer it."""

    @property
    def label(self) -> str:
        """The text."""

    @property
    def tag_box_xyxy(self) -> tuple[int, int, int, int]:
        """Where its box goes."""


def fit_short_side(image: Image.Image, short_side: int) -> Image.Image:
    """Resize with bicubic filtering so that the shorter side is `short_side`; the longer one is rounded down.

    Raises:
        ImageError: the image is so long and thin that its longer side would exceed LONGEST_SIDE.
    """
    shorter = min(image.size)
    size = (short_side * image.width // shorter, short_side * image.height // shorter)
    if max(size) > LONGEST_SIDE:
        raise ImageError(
            f"The image, {image.width}x{image.height}, is too long and thin: with a short side of {short_side} pixels "
            f"it would be {size[0]}x{size[1]}, more than {LONGEST_SIDE}. Crop it, or lower the preset's short_side."
        )
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def render_marks(image: Image.Image, marks: Iterable[Tag], preset: Preset) -> Image.Image:
    """A copy of an RGB image with the tags drawn on it, in the order given."""
    marked = image.copy()
    for mark in marks:
        tile = _tag_tile(mark.label, preset)
        marked.paste(tile, mark.tag_box_xyxy[:2], tile)
    return marked


@lru_cache(maxsize=4096)
def tag_size(label: str, preset: Preset) -> tuple[int, int]:
    """Width and height in pixels of the tag of a label."""
    return math.ceil(_font(preset.font_px).getlength(label)) + 2 * preset.padding, preset.font_px + 2 * preset.padding


@lru_cache(maxsize=4096)
def _tag_tile(label: str, preset: Preset) -> Image.Image:
    """The tag as an RGBA picture: the see-through box with the opaque text composited over it."""
    width, height = size = tag_size(label, preset)
    font = _font(preset.font_px)
    _, digit_top, _, digit_bottom = font.getbbox("0", anchor="ms")  # every label on one baseline, digits mid-height
    baseline = (height - digit_top - digit_bottom) / 2
    text = Image.new("RGBA", size, (*preset.text_rgb, 0))
    ImageDraw.Draw(text).text((width / 2, baseline), label, fill=(*preset.text_rgb, 255), font=font, anchor="ms")
    box = Image.new("RGBA", size, (*preset.tag_rgb, round(255 * preset.tag_opacity)))
    return Image.alpha_composite(box, text)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size, Pillow never falls back to its bitmap font
    return font

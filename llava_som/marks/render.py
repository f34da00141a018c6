"""Drawing the marks. Nothing but what the preset names changes: the picture below stays the photo the model will see.

Fills and boundaries first, then boxes, leader lines and tags, so that no number is ever painted over. A tag is drawn
once per label and style and then pasted, so an image costs one copy plus a few hundred pixels per mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw

from llava_som.images import ImageError

from .paint import Rgb, paint_regions
from .presets import Preset
from .region import Region
from .tags import TagStyle, tag_style, tag_tile

LONGEST_SIDE = 65_500  # what a JPEG file can hold
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SUBPIXEL_BITS = 4  # of OpenCV's fixed-point coordinates


class Drawable(Protocol):
    """What drawing needs to know; marks and their records both offer it."""

    @property
    def id(self) -> int:
        """The number that chooses the colour."""

    @property
    def label(self) -> str:
        """The text."""

    @property
    def tag_box_xyxy(self) -> tuple[int, int, int, int]:
        """Where the tag goes."""

    @property
    def leader_xyxy(self) -> tuple[int, int, int, int] | None:
        """From the region to the tag, when the tag is not on the region."""

    @property
    def bbox_xywh(self) -> tuple[int, int, int, int]:
        """The region's box."""

    @property
    def visible(self) -> Region:
        """The part of the region that no smaller one covers."""


def fit_image(image: Image.Image, preset: Preset) -> Image.Image:
    """The clean image at the size at which it is marked; an image that already has that size is returned as it is.

    Raises:
        ImageError: the image is so long and thin that its longer side would exceed LONGEST_SIDE.
    """
    if preset.short_side is not None:
        return fit_short_side(image, preset.short_side)
    longer = max(image.size)
    if preset.font_px is not None or longer >= preset.model_input_side:
        return image
    width, height = (max(1, round(side * preset.model_input_side / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


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


def render_marks(image: Image.Image, marks: Iterable[Drawable], preset: Preset) -> Image.Image:
    """A copy of an RGB image with the marks drawn on it, what the preset names of each, in the order given."""
    marked, marks = image.copy(), list(marks)
    style = tag_style(preset, image.size)
    palette = preset.colours
    colours = [palette[(mark.id - 1) % len(palette)] for mark in marks]
    if {"mask", "boundary"} & set(preset.draw):
        opacity = preset.mask_opacity if "mask" in preset.draw else None
        boundary_width = style.line_width if "boundary" in preset.draw else None
        paint_regions(marked, [mark.visible for mark in marks], colours, opacity, boundary_width)
    if "box" in preset.draw:
        draw = ImageDraw.Draw(marked)
        for mark, colour in zip(marks, colours, strict=True):
            x, y, width, height = mark.bbox_xywh
            draw.rectangle((x, y, x + width - 1, y + height - 1), outline=colour, width=style.line_width)
    if "mark" in preset.draw:
        _draw_tags(marked, marks, colours, style, preset)
    return marked


def _draw_tags(
    marked: Image.Image, marks: Sequence[Drawable], colours: Sequence[Rgb], style: TagStyle, preset: Preset
) -> None:
    """Leader lines below all tags; the colours are chosen before either is drawn."""
    chosen = [
        _tag_colours(marked, mark.tag_box_xyxy, colour, preset) for mark, colour in zip(marks, colours, strict=True)
    ]
    for mark, (text_rgb, tag_rgb) in zip(marks, chosen, strict=True):
        if mark.leader_xyxy is not None:
            _draw_leader(marked, mark.leader_xyxy, style.line_width, tag_rgb, text_rgb)
    for mark, (text_rgb, tag_rgb) in zip(marks, chosen, strict=True):
        tile = tag_tile(mark.label, style, text_rgb, tag_rgb)
        marked.paste(tile, mark.tag_box_xyxy[:2], tile)


def _draw_leader(marked: Image.Image, line: tuple[int, int, int, int], width: int, inner: Rgb, outer: Rgb) -> None:
    """A line with a dot at the region's end, in the tag's colour and edged with its text's, smooth."""
    reach = 3 * width + 2
    left, top = max(0, min(line[0], line[2]) - reach), max(0, min(line[1], line[3]) - reach)
    right, bottom = max(line[0], line[2]) + reach + 1, max(line[1], line[3]) + reach + 1
    size = (min(bottom, marked.height) - top, min(right, marked.width) - left)
    start, end = (line[0] - left, line[1] - top), (line[2] - left, line[3] - top)
    centre = (start[0] << _SUBPIXEL_BITS, start[1] << _SUBPIXEL_BITS)
    for colour, edge in ((outer, max(1, width // 2)), (inner, 0)):
        alpha = np.zeros(size, np.uint8)
        cv2.line(alpha, start, end, 255, width + 2 * edge, cv2.LINE_AA)
        radius = (3 * width + 2 * edge) << _SUBPIXEL_BITS - 1
        cv2.circle(alpha, centre, radius, 255, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
        marked.paste(colour, (left, top), Image.fromarray(alpha))


def _tag_colours(marked: Image.Image, box: tuple[int, int, int, int], colour: Rgb, preset: Preset) -> tuple[Rgb, Rgb]:
    """Text and box colour of a tag, for what lies below it and the colour of its mark."""
    if preset.tag_colour == "palette":
        return (_BLACK if _luma(colour) >= 128 else _WHITE), colour
    if preset.tag_colour == "background":
        below = _luma(np.asarray(marked.crop(box)).reshape(-1, 3).mean(axis=0))
        if abs(_luma(preset.text_rgb) - below) > abs(_luma(preset.tag_rgb) - below):
            return preset.tag_rgb, preset.text_rgb
    return preset.text_rgb, preset.tag_rgb


def _luma(rgb: Sequence[float] | np.ndarray) -> float:
    """Brightness, 0 to 255 (ITU-R BT.601)."""
    return float(np.dot(rgb, (0.299, 0.587, 0.114)))

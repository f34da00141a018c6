"""The tag itself: its text, how large it is on this image, and its picture.

A number has to survive the model's own resizing, so its size follows from the model's input and not from the image:
an 18 pt digit on an 853x640 photo is 7 pixels high once LLaVA-1.5 has made 336x336 of it. The default font is the one
embedded in Pillow: no font file, the same pixels on every machine with the same Pillow, and digits of equal width.
"""

from __future__ import annotations

import hashlib
import math
import string
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .labels import letters_of
from .paint import Rgb
from .presets import Preset

_NO_CHARACTER = "\U0010ffff"  # never assigned: every font draws its "missing" box for it


@dataclass(frozen=True)
class TagStyle:
    """A preset on an image of one size: the lengths in that image's pixels, and what a tag's picture depends on.

    Args:
        font: path of the font file; None for Pillow's own.
        font_px: font size.
        padding: space around the text.
        line_width: width of boxes, boundaries and leader lines.
        opacity: of the box behind the text.
        glyphs: the characters between whose highest and lowest point every label is centred.
    """

    font: str | None
    font_px: int
    padding: int
    line_width: int
    opacity: float
    glyphs: str

    @property
    def gap(self) -> int:
        """Pixels kept free between two tags, so that "1" beside "2" is not read as 12."""
        return max(2, self.font_px // 5)


@lru_cache(maxsize=1024)
def tag_style(preset: Preset, image_size: tuple[int, int]) -> TagStyle:
    """The preset on a marked image of (width, height).

    Raises:
        ValueError: the preset's font is missing, is no font, or lacks a character of the labels.
    """
    glyphs_of = {"numbers": "0", "letters": string.ascii_lowercase}
    glyphs = glyphs_of[preset.labels] if isinstance(preset.labels, str) else "".join(preset.labels)
    if preset.font_px is not None:
        scale, font_px = 1.0, preset.font_px
    else:
        scale = max(1.0, max(image_size) / preset.model_input_side)
        font_px = _font_px_of(preset.font, math.ceil(preset.digit_px * scale))
    _check_glyphs(preset.font, glyphs)
    padding, line_width = round(preset.padding * scale), max(1, round(preset.line_width * scale))
    return TagStyle(preset.font, font_px, padding, line_width, preset.tag_opacity, glyphs)


def label_of(number: int, preset: Preset) -> str:
    """What the tag of mark 1, 2, 3, ... says. Letters go on after z like the columns of a spreadsheet: aa, ab, ..."""
    if preset.labels == "numbers":
        return str(number)
    if preset.labels == "letters":
        return letters_of(number)
    return preset.labels[number - 1]


@lru_cache(maxsize=4096)
def tag_size(label: str, style: TagStyle) -> tuple[int, int]:
    """Width and height in pixels of the tag of a label."""
    font = _font(style.font, style.font_px)
    _, top, _, bottom = font.getbbox(style.glyphs, anchor="ms")
    height = max(style.font_px, math.ceil(bottom - top))
    return math.ceil(font.getlength(label)) + 2 * style.padding, height + 2 * style.padding


@lru_cache(maxsize=4096)
def tag_tile(label: str, style: TagStyle, text_rgb: Rgb, tag_rgb: Rgb) -> Image.Image:
    """The tag as an RGBA picture: the see-through box with the opaque text composited over it."""
    width, height = size = tag_size(label, style)
    font = _font(style.font, style.font_px)
    _, top, _, bottom = font.getbbox(style.glyphs, anchor="ms")  # one baseline for all labels of an image
    baseline = (height - top - bottom) / 2
    text = Image.new("RGBA", size, (*text_rgb, 0))
    ImageDraw.Draw(text).text((width / 2, baseline), label, fill=(*text_rgb, 255), font=font, anchor="ms")
    return Image.alpha_composite(Image.new("RGBA", size, (*tag_rgb, round(255 * style.opacity))), text)


@lru_cache(maxsize=16)
def font_digest(font: str | None) -> str | None:
    """SHA-256 of a font file, by which a record tells whether it would be drawn with the same one; None for Pillow's.

    Raises:
        ValueError: the file cannot be read.
    """
    if font is None:
        return None
    try:
        return hashlib.sha256(Path(font).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(_unreadable(font, error)) from None


@lru_cache(maxsize=64)
def _font(font: str | None, size: int) -> ImageFont.FreeTypeFont:
    if font is None:
        embedded = ImageFont.load_default(size=size)
        assert isinstance(embedded, ImageFont.FreeTypeFont)  # with a size, Pillow never falls back to its bitmap font
        return embedded
    if not Path(font).is_file():  # Pillow would go on to search the system's folders for a font of that name
        raise ValueError(_unreadable(font, "no such file"))
    try:
        return ImageFont.truetype(font, size)
    except OSError as error:
        raise ValueError(_unreadable(font, error)) from None


def _unreadable(font: str, problem: object) -> str:
    return f"The font {font!r} cannot be read: {problem}. Give the path of a TrueType or OpenType file in font=."


@lru_cache(maxsize=256)
def _font_px_of(font: str | None, digit_px: int) -> int:
    """The smallest size at which every digit is at least so many pixels high."""
    size = digit_px  # a digit is lower than its font's size
    while (lacking := digit_px - _digit_height(font, size)) > 0:
        size += max(1, lacking // 2)  # too little to leap over the size that is wanted
    return size


def _digit_height(font: str | None, size: int) -> int:
    boxes = [_font(font, size).getmask(digit).getbbox() for digit in "0123456789"]
    return min(box[3] - box[1] if box else size for box in boxes)


@lru_cache(maxsize=64)
def _check_glyphs(font: str | None, glyphs: str) -> None:
    loaded = _font(font, 32)
    missing = bytes(loaded.getmask(_NO_CHARACTER))
    for glyph in glyphs:
        if bytes(loaded.getmask(glyph)) == missing:
            named = "The font embedded in Pillow" if font is None else f"The font {font!r}"
            raise ValueError(f"{named} has no character {glyph!r} for the labels. Give another in font=.")

"""The fonts that tables are drawn with: those that matplotlib brings, so that every machine draws the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

FAMILIES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")
_BOLD = {"STIXGeneral": "STIXGeneralBol"}


def font_file(family: str, is_bold: bool = False) -> Path:
    """The file of a font; an ImportError where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("Drawing tables and charts needs matplotlib: pip install 'llava_som[gen]'.") from None
    name = _BOLD.get(family, f"{family}-Bold") if is_bold else family
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")


@cache
def load_font(family: str, is_bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """A font at a size in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(str(font_file(family, is_bold)), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def known_characters(family: str, is_bold: bool) -> frozenset[int]:
    """The code points that a font has a glyph for."""
    file = font_file(family, is_bold)
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(file)).get_charmap())


def missing_characters(text: str, family: str) -> str:
    """The characters of a text that a font would draw as an empty box, regular or bold, each once."""
    both = known_characters(family, False) & known_characters(family, True)
    return "".join(dict.fromkeys(letter for letter in text if not letter.isspace() and ord(letter) not in both))

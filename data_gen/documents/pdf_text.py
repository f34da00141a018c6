"""The text layer of a PDF page: its words, each with the pixels that it takes in the page's picture.

The layer is believed: where the fonts name other letters than they draw, only the picture would tell.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from data_gen.requests import Rejected
from llava_som.data.page_record import Word, inside

if TYPE_CHECKING:
    import pypdfium2

MOST_UNMAPPED = 0.05  # of the characters
_UPRIGHT = 15  # degrees to either side
_BROKEN_WORD = "\x02"  # how PDFium tells the hyphen of a word that goes on in the next line
_LIGATURES = range(0xFB00, 0xFB07)  # the Latin ones, ff to st, which are read as letters


class Character(NamedTuple):
    """One character; `box` is left, bottom, right, top in points from the page's lower left corner.

    It is as wide as the font sets the character and as high as the font, so a gap between words is what blanks take.
    """

    text: str
    box: tuple[float, float, float, float]
    is_upright: bool
    is_mapped: bool


def pdf_words(page: pypdfium2.PdfPage, position: pypdfium2.PdfPosConv, size: tuple[int, int]) -> list[Word]:
    """The upright words of a page, in the order of the file. Words outside the picture or turned sideways are left out.

    Args:
        page: the page.
        position: what turns places on the page into pixels.
        size: (width, height) of the page's picture.

    Raises:
        Rejected: there is no text layer, it does not say which letters the page shows, or all of it is left out.
    """
    groups = list(together(characters(page)))
    found = [character for group in groups for character in group]
    if not found:
        raise Rejected("no text layer", "the page is a scan, a drawing or blank. Read it with source=ocr")
    unmapped = sum(not character.is_mapped for character in found)
    if unmapped > MOST_UNMAPPED * len(found):
        told = f"{unmapped} of {len(found)} characters have no Unicode letter. Read the page with source=ocr"
        raise Rejected("unreadable text layer", told)
    words = [word_of(group, position, size) for group in groups if all(character.is_upright for character in group)]
    if not any(words):
        raise Rejected("no upright text", "what the text layer holds is turned sideways, or lies outside the page")
    return [word for word in words if word is not None]


def characters(page: pypdfium2.PdfPage) -> Iterator[Character]:
    """The characters of a page's text layer with the white space that PDFium sees between them."""
    import pypdfium2.raw as pdfium

    layer, turned = page.get_textpage(), page.get_rotation()
    for k in range(layer.count_chars()):
        code = pdfium.FPDFText_GetUnicode(layer, k)
        text = chr(code) if 0 < code <= 0x10FFFF else ""
        is_broken_word = text == _BROKEN_WORD and pdfium.FPDFText_IsHyphen(layer, k)
        sideways = math.remainder(math.degrees(pdfium.FPDFText_GetCharAngle(layer, k)) + turned, 360)
        yield Character(
            text="-" if is_broken_word else text,
            box=layer.get_charbox(k, loose=True),
            is_upright=abs(sideways) <= _UPRIGHT,
            is_mapped=is_broken_word or (not pdfium.FPDFText_HasUnicodeMapError(layer, k) and is_letter(text)),
        )


def together(found: Iterable[Character]) -> Iterator[list[Character]]:
    """Characters in groups that stand together, without the white space between the groups."""
    group: list[Character] = []
    for character in found:
        if group and (character.text.isspace() or are_apart(group[-1].box, character.box)):
            yield group
            group = []
        if not character.text.isspace():
            group.append(character)
    if group:
        yield group


def are_apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two characters are farther apart than they are large: PDFium tells no line end after a hyphen."""
    gaps = (max(one[k], other[k]) - min(one[k + 2], other[k + 2]) for k in (0, 1))
    return max(gaps) > max(one[2] - one[0], one[3] - one[1])


def is_letter(text: str) -> bool:
    """Whether a character stands for something that is seen: no control, private or unassigned code."""
    return bool(text) and (text.isspace() or unicodedata.category(text) not in ("Cc", "Co", "Cn"))


def word_of(group: Sequence[Character], position: pypdfium2.PdfPosConv, size: tuple[int, int]) -> Word | None:
    """Characters that stand together as a word in pixels; None where its middle lies outside the picture."""
    lefts, bottoms, rights, tops = zip(*(character.box for character in group), strict=True)
    corners = position.to_bitmap(min(lefts), min(bottoms)), position.to_bitmap(max(rights), max(tops))
    (left, right), (top, bottom) = (sorted(ends) for ends in zip(*corners, strict=True))
    text = readable("".join(character.text for character in group if character.is_mapped))
    if not (0 <= left + right < 2 * size[0] and 0 <= top + bottom < 2 * size[1] and text):
        return None
    return Word(text=text, box=inside((left, top, right, bottom), size))


def readable(text: str) -> str:
    """Text with accents composed, Latin ligatures taken apart and halves of surrogate pairs joined."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    parted = (unicodedata.normalize("NFKC", letter) if ord(letter) in _LIGATURES else letter for letter in whole)
    return unicodedata.normalize("NFC", "".join(parted))

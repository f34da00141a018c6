"""What keeps a page out of the data: text that training would misread, or whose order we would get wrong."""

from __future__ import annotations

import re
import unicodedata

from data_gen.requests import Rejected
from data_gen.sources.base import Page
from llava_som.data.schema import IMAGE_PLACEHOLDER

RESERVED = re.compile(
    rf"{IMAGE_PLACEHOLDER}|</(?:doc|md>|ocr>)"
    r"|<\|\w+\|>|</?s>"  # <|image|>, and what chat templates end turns with: tokenizers would take them for the thing
)
MOST_RIGHT_TO_LEFT = 0.05  # of the letters
_RIGHT_TO_LEFT = ("R", "AL")


def check_page(page: Page) -> None:
    """Refuse what must not become training data.

    Raises:
        Rejected: the page has no text, holds what stands for a picture or ends an answer, or is in a script that runs
            from right to left: words are put in order from left to right only.
    """
    text = " ".join(word.text for block in page.blocks for line in block.lines for word in line.words)
    if not text.strip():
        raise Rejected("no text", "there is not a word on it")
    if reserved := RESERVED.search(f"{text} {page.markdown or ''} {page.caption or ''}"):
        raise Rejected("reserved words", f"the page says {reserved[0]!r}, which training would not read as text")
    letters = [letter for letter in text if letter.isalpha()]
    leftwards = sum(unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT for letter in letters)
    if leftwards > MOST_RIGHT_TO_LEFT * len(letters):
        told = f"{leftwards} of {len(letters)} letters; words are put in order from left to right only"
        raise Rejected("right-to-left script", told)

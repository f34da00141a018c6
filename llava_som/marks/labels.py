"""Listings by what is printed on the tags, which are numbers or letters.

`parse` reads numbers. Letters count like the columns of a spreadsheet (a = 1, z = 26, aa = 27), so a listing by letters
becomes one by numbers, is read, and turns back; a letter that no tag has is found out like a number. An item
with a number ("1. a cat") names no letter and is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .parse import parse_items, plain_answer

_READABLE = (r"0|[1-9][0-9]{0,2}", r"[a-z]{1,2}", r"[A-Z]{1,2}")
_LETTER_ITEM = re.compile(
    r"""
    (?P<before>
        (?: ^[ \t]*(?:[-*•+\#>{|]+[ \t]*)? | [.,;:][ \t]+(?:and[ \t]+)? | ,(?=["']) )  # opens a line or goes on
        (?P<tag> (?:the[ ])?(?:tag|mark|label|letter|id)[ \t]*[-\#:]?[ \t]* )?
    )
    (?P<open>[\["'`(]?) (?P<letters>[a-z]{1,2}) (?P<close>[\]"'`)]?)
    (?P<after>
        [ \t]*(?:[.:)]|[-=]>|[→=|])(?=\s|$) | [ \t]*[：、．）] | [ \t]+[-–—](?=\s) | (?<=[\])])(?=\s)
      | (?P<verb>[ \t]+(?:is|are|marks|labels|shows)\b)
    )
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_LETTER_FIELD = re.compile(r"""(["'](?:id|tag|mark|label|letter)["']\s*:\s*["'])([a-z]{1,2})(?=["'])""", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledItem:
    """One item of a listing: the label of its tag, and what is said about it."""

    label: str
    text: str


def are_readable(labels: Sequence[str]) -> bool:
    """Whether answers about tags with these labels can be read: numbers, or one or two letters of one case."""
    return any(all(re.fullmatch(kind, label) for label in labels) for kind in _READABLE)


def labelled_items(text: str, labels: Sequence[str]) -> list[LabelledItem]:
    """The items of a listing in the order written, repeated and invented ones included.

    Args:
        text: the answer.
        labels: what the tags of the picture say; `are_readable`, and at least one.
    """
    if all(label.isdigit() for label in labels):
        return [LabelledItem(str(item.id), item.text) for item in parse_items(text).items]
    cased = str.upper if labels[0].isupper() else str.lower
    written: dict[int, str] = {}

    def number_of(letters: str) -> int:
        written[rank(letters)] = cased(letters)
        return rank(letters)

    def as_number(found: re.Match[str]) -> str:
        if found["verb"] and not found["tag"] and cased(found["letters"]) not in labels:  # "It is a dog."
            return found[0]
        opened, close = ("", "") if found["open"] == "(" else (found["open"], found["close"])
        after = found["after"] or (". " if found["open"] == "(" else "")
        return f"{found['before']}{opened}{number_of(found['letters'])}{close}{after}"

    numbered = _LETTER_ITEM.sub(as_number, plain_answer(text))
    numbered = _LETTER_FIELD.sub(lambda found: f"{found[1]}{number_of(found[2])}", numbered)
    items = parse_items(numbered).items
    return [LabelledItem(written[item.id], item.text) for item in items if item.id in written]


def letters_of(number: int) -> str:
    """1 -> "a", 26 -> "z", 27 -> "aa"."""
    text = ""
    while number > 0:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def rank(label: str) -> int:
    """Where a label stands in counting order: its number, or that of its letters; any number for other texts."""
    if label.isascii() and label.isdigit():
        return int(label)
    number = 0
    for letter in label.lower():
        number = 26 * number + ord(letter) - ord("a") + 1
    return number

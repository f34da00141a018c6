"""Tags by what is printed on them: reading lists and citations whose tags are numbers or letters.

The shared parser reads numbers. Letters count like the columns of a spreadsheet (a = 1, z = 26, aa = 27), so a list of
letters becomes one of numbers, is read, and turns back; a letter that no tag has is found out like a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_gen.requests import Rejected
from llava_som.marks.parse import parse_items

_LETTER_ITEM = re.compile(
    r"""
    (?P<before>
        (?: ^[ \t]*(?:[-*•\#>{]+[ \t]*)? | [.,;:][ \t]+(?:and[ \t]+)? | ,(?=["']) )  # opens a line or goes on
        (?: (?:the[ ])?(?:tag|mark|label|letter|id)[ \t]*[-\#:]?[ \t]* )?
    )
    (?P<open>[\["'(]?) (?P<letters>[a-z]{1,2}) (?P<close>[\]"')]?)
    (?P<after>
        [ \t]*[.:)](?=\s|$) | [ \t]+[-–—](?=\s) | (?<=[\])])(?=\s) | (?P<verb>[ \t]+(?:is|are|marks|labels|shows)\b)
    )
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_TAG_WORDS = (
    r"(?:tag(?:ged)?|mark(?:ed)?|label(?:l?ed)?|id)s?"
    r"(?:[ ](?:with|as|by|is|number(?:ed|s)?|letter(?:ed|s)?|the|tags?|ids?))*"
)


@dataclass(frozen=True)
class Item:
    """One item of a list: the label of its tag, and what is said about it."""

    label: str
    text: str


@dataclass(frozen=True)
class Labels:
    """The labels of one picture's marks, in the order in which they are listed.

    Raises:
        Rejected: labels that are neither numbers nor one or two letters: no answer about them could be read back.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        readable = (r"0|[1-9][0-9]{0,2}", r"[a-z]{1,2}", r"[A-Z]{1,2}")
        if not any(all(re.fullmatch(kind, name) for name in self.names) for kind in readable):
            given = ", ".join(map(repr, self.names[:5]))
            raise Rejected("labels that cannot be read back", f"{given}; use marks labelled 1, 2, 3 or a, b, c")

    @classmethod
    def of(cls, labels: Sequence[str]) -> Labels:
        """Labels in any order."""
        return cls(tuple(sorted(labels, key=rank)))

    @property
    def are_numbers(self) -> bool:
        """Whether the tags are numbers."""
        return all(name.isdigit() for name in self.names)

    @property
    def word(self) -> str:
        """What the tags consist of: "number" or "letter"."""
        return "number" if self.are_numbers else "letter"

    def items(self, text: str) -> list[Item]:
        """The items of a list in the order written, repeated and invented ones included."""
        if self.are_numbers:
            return [Item(str(item.id), item.text) for item in parse_items(text).items]
        numbered = _LETTER_ITEM.sub(self._as_number, text.replace("**", ""))
        return [Item(self._spelt(letters_of(item.id)), item.text) for item in parse_items(numbered).items]

    def cited(self, text: str) -> list[str]:
        """The labels a sentence names as tags ("the sheep tagged 4", "tags 2, 5 and 7", "[3]"), in order, once each."""
        label = r"\d{1,3}(?![\d%:]|\.\d)" if self.are_numbers else r"[A-Za-z](?:[A-Za-z])?"
        more = rf"(?:(?:,| and| or| to|, and|, or|/| &)\s*(?:tags? |the one tagged )?{label}\b)*"
        found: dict[str, None] = {}
        patterns = rf"\b{_TAG_WORDS}(?:\s*[-#:]\s*|\s+)\[?({label}\b{more})", rf"\[({label})\]"
        for pattern in patterns:
            for match in re.finditer(pattern, text, re.IGNORECASE):
                for name in re.findall(rf"\b{label}\b", match[1]):
                    spelt = str(int(name)) if self.are_numbers else self._spelt(name)
                    is_word = len(name) > 1 or spelt.lower() == "i"  # "which tag do I need", "the tag is"
                    if self.are_numbers or spelt in self.names or not is_word:
                        found.setdefault(spelt)
        return list(found)

    def _as_number(self, found: re.Match[str]) -> str:
        label = self._spelt(found["letters"])
        if found["verb"] and label not in self.names:  # "It is a dog."
            return found[0]
        close = "" if found["open"] == "(" else found["close"]
        opened = "" if found["open"] == "(" else found["open"]
        after = found["after"] or (". " if found["open"] == "(" else "")
        return f"{found['before']}{opened}{rank(label)}{close}{after}"

    def _spelt(self, letters: str) -> str:
        """Letters as the tags spell them, whatever case the answer uses."""
        return letters.upper() if self.names[0].isupper() else letters.lower()


def letters_of(number: int) -> str:
    """1 -> "a", 26 -> "z", 27 -> "aa"."""
    text = ""
    while number > 0:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def rank(label: str) -> int:
    """Where a label stands in counting order: its number, or that of its letters; a large one for any other text."""
    if label.isascii() and label.isdigit():
        return int(label)
    number = 0
    for letter in label.lower():
        number = 26 * number + ord(letter) - ord("a") + 1
    return number

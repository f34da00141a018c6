"""Tags by what is printed on them: the labels of one picture, and where a text speaks of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_gen.requests import Rejected
from llava_som.marks.labels import LabelledItem, are_readable, labelled_items, rank

_TAG_WORDS = (
    r"(?:tag(?:ged)?|mark(?:ed)?|label(?:l?ed)?|id)s?"
    r"(?:[ ](?:with|as|by|is|number(?:ed|s)?|letter(?:ed|s)?|the|tags?|ids?))*"
)


@dataclass(frozen=True)
class Labels:
    """The labels of one picture's marks, in the order in which they are listed.

    Raises:
        Rejected: labels that are neither numbers nor one or two letters: no answer about them could be read back.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not are_readable(self.names):
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

    def items(self, text: str) -> list[LabelledItem]:
        """The items of a list in the order written, repeated and invented ones included."""
        return labelled_items(text, self.names)

    def cited(self, text: str) -> list[str]:
        """The labels a sentence names as tags ("the sheep tagged 4", "tags 2, 5 and 7", "[3]"), in order, once each."""
        label = r"\d{1,3}(?![\d%:]|\.\d)" if self.are_numbers else r"[A-Za-z]{1,2}"
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

    def _spelt(self, letters: str) -> str:
        """Letters as the tags spell them, whatever case the answer uses."""
        return letters.upper() if self.names[0].isupper() else letters.lower()

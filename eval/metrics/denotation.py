"""Denotation accuracy of WikiTableQuestions (Pasupat and Liang, ACL 2015): do two answers name the same values?

Values are numbers, dates or texts and are compared as the authors' evaluator does: numbers by amount, dates by year,
month and day, texts after diacritics, quotes, citations and remarks in brackets are gone. The order is ignored.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

Date = tuple[int | None, int | None, int | None]

_TRAILING_NOTES = re.compile(r"((?<!^)\[[^\]]*\]|\[\d+\]|[•♦†‡*#+])*$")
_TRAILING_BRACKETS = re.compile(r"(?<!^)( \([^)]*\))*$")
_IN_QUOTES = re.compile(r'^"([^"]*)"$')
_UNKNOWN = ("xx", "xxxx")


@dataclass(frozen=True)
class Value:
    """One item of an answer: its normalised text, and the number or the date it states, if any."""

    text: str
    number: float | None = None
    date: Date | None = None

    @classmethod
    def read(cls, text: str) -> Value:
        """Tell numbers ("3", "2.50") and dates ("2004-07-04", "xx-07-04") from texts; a year alone is a number."""
        number, date = _number(text), _date(text)
        if date is not None and date[1:] == (None, None):
            number, date = date[0], None
        return cls(normalized(text), number, date)

    def matches(self, other: Value) -> bool:
        """Equal texts, numbers within a millionth, or equal dates."""
        if self.text == other.text:
            return True
        if self.number is not None and other.number is not None:
            return abs(self.number - other.number) < 1e-6
        return self.date is not None and self.date == other.date


def same_denotation(answer: Sequence[str], reference: Sequence[str]) -> bool:
    """Whether two collections hold the same values; what is repeated counts once."""
    said, true = _distinct(answer), _distinct(reference)
    return len(said) == len(true) and all(any(value.matches(other) for other in said) for value in true)


def names_all(answer: str, reference: Sequence[str]) -> bool:
    """Whether a written answer denotes the values of `reference`, which is how models answer.

    One value must be the whole answer. Several may be separated by "|" or ", " in any order; because values may hold a
    comma themselves, the references in their own order, separated by ", ", are right in any case.
    """
    if len(reference) == 1:
        return same_denotation([answer], reference)
    lists = [answer.split("|"), answer.split(", ")]
    return any(same_denotation(said, reference) for said in lists) or same_denotation([answer], [", ".join(reference)])


def normalized(text: str) -> str:
    """A text as the evaluator of WikiTableQuestions compares it."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) != "Mn")
    text = re.sub("[‘’´`]", "'", text)
    text = re.sub("[“”]", '"', text)
    text = re.sub("[‐‑‒–—−]", "-", text)
    before = None
    while text != before:
        before = text
        text = _TRAILING_NOTES.sub("", text.strip())
        text = _TRAILING_BRACKETS.sub("", text.strip())
        text = _IN_QUOTES.sub(r"\1", text.strip())
    return " ".join(text.removesuffix(".").lower().split())


def _distinct(texts: Sequence[str]) -> list[Value]:
    """The values, each number, date and text once."""
    stated: dict[object, Value] = {}
    for value in map(Value.read, texts):
        stated[(value.number, value.date) if value.number is not None or value.date else value.text] = value
    return list(stated.values())


def _number(text: str) -> float | None:
    try:
        value = float(text) if "_" not in text else math.nan  # Python 3 reads "1_000"
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date(text: str) -> Date | None:
    parts = text.lower().split("-")
    if len(parts) != 3:
        return None
    try:
        year, month, day = (None if part in _UNKNOWN else int(part) for part in parts)
    except ValueError:
        return None
    if (year, month, day) == (None, None, None) or not _within(month, 12) or not _within(day, 31):
        return None
    return year, month, day


def _within(part: int | None, last: int) -> bool:
    return part is None or 1 <= part <= last

"""Reading listings back: from the text a model wrote to {tag number: what it said is there}.

Models answer the same question as "1. A cat", "- Tag 1 is on a cat", "1 is on a cat ,", "[1] a cat", '"1": "a cat"' or
all on one line, with a sentence before and a caveat behind that names tags again (examples: arXiv 2404.16375,
appendix). A listing keeps one shape throughout, so the shape is found first, and a number counts as an item only in
that shape and only where an item can begin; "same tree as tag-1" inside a sentence never does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

_TAG_WORD = r"(?:tag|mark|id|number|label|object|item|region|no\.?|\#)"
_IS_ON = (
    r"(?:is|are|marks|labels|shows|indicates|refers\ to|points\ to|belongs\ to|sits|appears)\b"
    r"(?:\s+(?:(?:placed|located|positioned|sitting)\s+)?(?:on\ top\ of|on|over|at|for)\b)?"
)
_SHAPES = {
    "numbered": r"(?P<id>\d{1,3})\s*(?:[.):](?!\d)|[-–—](?=\s))",
    "tagged": rf"(?:the\s+)?{_TAG_WORD}\s*[-\#:]?\s*(?P<id>\d{{1,3}})(?:\s*[:.)]|\s*[-–—](?=\s)|\s+{_IS_ON})",
    "bracketed": rf"\[(?P<id>\d{{1,3}})\](?:\s*[:.)]|\s*[-–—](?=\s)|\s+{_IS_ON})?",
    "bare": rf"(?P<id>\d{{1,3}})\s+{_IS_ON}",
}
_FLAGS = re.IGNORECASE | re.MULTILINE | re.VERBOSE
_LINE_START = {shape: re.compile(rf"^[ \t]*(?:[-*•\#>]+[ \t]+)?{body}", _FLAGS) for shape, body in _SHAPES.items()}
_INLINE = {
    shape: re.compile(rf"(?P<digit>\d\s*)?(?P<separator>[.,;:])\s+(?:and\s+)?{body}(?=\s*\S)", _FLAGS)
    for shape, body in _SHAPES.items()
}
_JSON_PAIR = re.compile(
    r"""(?:["'](?:[a-z]+[\s_-]*)?(\d{1,3})["']|(?<=[{,])\s*(\d{1,3}))\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""",
    re.IGNORECASE,
)
_NOTE = re.compile(r"(?:\n|[.!?,;]\s)[ \t]*\(?(?:please\s+)?note(?:\s+that\b|s?:|,)", re.IGNORECASE)

_ARTICLES = re.compile(r"^(?:(?:a|an|the)\s+)+")
_IRREGULAR = {
    **{"people": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth"},
    **{"mice": "mouse", "geese": "goose", "knives": "knife", "shelves": "shelf", "leaves": "leaf", "wolves": "wolf"},
    **{"buses": "bus", "skis": "ski", "potatoes": "potato", "tomatoes": "tomato", "cookies": "cookie"},
}


@dataclass(frozen=True)
class ListedItem:
    """One item of a listing as written: the tag number and what is said about it."""

    id: int
    text: str


@dataclass(frozen=True)
class ParsedListing:
    """The items in the order written, repeated numbers included."""

    items: tuple[ListedItem, ...]

    @property
    def ids(self) -> list[int]:
        """The numbers in the order written."""
        return [item.id for item in self.items]

    @property
    def duplicates(self) -> list[int]:
        """The numbers listed more than once, ascending."""
        return sorted(number for number, mentions in Counter(self.ids).items() if mentions > 1)

    @cached_property
    def by_id(self) -> dict[int, str]:
        """{number: text}; the first mention of a number stands."""
        first: dict[int, str] = {}
        for item in self.items:
            first.setdefault(item.id, item.text)
        return first


@dataclass(frozen=True)
class _Start:
    """An item's number and where its marker begins and ends in the text."""

    id: int
    begin: int
    end: int


def parse_listing(text: str) -> dict[int, str]:
    """{tag number: text} of a listing; {} when the text holds none."""
    return parse_items(text).by_id


def parse_items(text: str) -> ParsedListing:
    """Every item of a listing, in the order written. Never fails: a text without a listing has no items."""
    text = text.replace("\r\n", "\n").replace("**", "")
    pairs = _JSON_PAIR.findall(text)
    if pairs:
        items = [ListedItem(int(quoted or plain), _unquoted(value)) for quoted, plain, value in pairs]
        return ParsedListing(tuple(items))
    starts = _item_starts(text)
    bounds = [start.begin for start in starts] + [len(text)]
    items = [
        ListedItem(start.id, _item_text(text[start.end : end], is_last=start is starts[-1]))
        for start, end in zip(starts, bounds[1:], strict=True)
    ]
    return ParsedListing(tuple(items))


def _item_starts(text: str) -> list[_Start]:
    """The items of the shape that opens the most lines; without such a line, of the shape found most often."""
    opening = {
        shape: [_Start(int(found["id"]), found.start(), found.end()) for found in pattern.finditer(text)]
        for shape, pattern in _LINE_START.items()
    }
    shape = max(opening, key=lambda name: len(opening[name]))
    if opening[shape]:
        return _with_inline(text, shape, opening[shape])
    return max((_with_inline(text, shape, []) for shape in _SHAPES), key=len)


def _with_inline(text: str, shape: str, opening: list[_Start]) -> list[_Start]:
    """Add the items that begin inside a line, after a comma, semicolon, colon or full stop, to those that open one.

    Before an item that opens a line, only numbers missing in between are taken. Behind the last such item, all are, but
    only in a listing that puts several on a line; there, "tags 2, 3. They" is two numbers and not an item.
    """
    merged: list[_Start] = []
    position, several_on_a_line = 0, len(opening) <= 1
    for following in [*opening, None]:
        stop = len(text) if following is None else following.begin
        for found in _INLINE[shape].finditer(text, position, stop):
            number, previous = int(found["id"]), merged[-1].id if merged else 0
            if following is None:
                is_item = several_on_a_line and (number == previous + 1 or not found["digit"])
            else:
                is_item = previous < number < following.id
            if is_item:
                merged.append(_Start(number, found.end("separator"), found.end()))
                several_on_a_line = True
        if following is not None:
            merged.append(following)
            position = following.end
    return merged


def _item_text(raw: str, is_last: bool) -> str:
    """An item's words on one line, without the note that may follow the last item.

    An item ends at a blank line. The last one also ends at "Note that", or where an unindented line follows a finished
    sentence: in the middle of a listing such a line is still the item's, at its end it is the closing remark.
    """
    if is_last and (note := _NOTE.search(raw)):
        raw = raw[: note.start()]
    first, *more = re.split(r"\n[ \t]*\n", raw.strip())[0].split("\n")
    words = first.strip()
    for line in more:
        if is_last and words.endswith((".", "!", "?")) and not line[:1].isspace():
            break
        words = f"{words} {line.strip()}"
    return words.strip().rstrip(" ,;.")


def _unquoted(literal: str) -> str:
    body = literal[1:-1]
    if literal[0] == '"':
        try:
            body = json.loads(literal, strict=False)
        except json.JSONDecodeError:  # an escape JSON does not know: the words matter more than the backslash
            body = literal[1:-1]
    return body.strip().rstrip(" ,;.")


def normalize_name(text: str) -> str:
    """A name as scoring compares it: lower case, no punctuation, no leading article, each word in the singular."""
    words = re.sub(r"[^\w\s-]|_", " ", text.lower()).split()
    return _ARTICLES.sub("", " ".join(_singular(word) for word in words))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes")):
        return word[:-2]
    return word.removesuffix("s")

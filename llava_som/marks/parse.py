"""Reading listings back: from the text a model wrote to {tag number: what it said is there}.

Models answer the same question as "1. A cat", "- Tag 1 is on a cat", "1 is on a cat ,", "[1] a cat", '"1": "a cat"', as
a table, in Chinese punctuation or all on one line, with thoughts and a sentence before and a caveat behind that name
tags as well (examples: arXiv 2404.16375, appendix). A listing keeps one shape throughout, so the shape is found first,
and a number counts as an item only in that shape and only where an item can begin; "same tree as tag-1" inside a
sentence never does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

_TAG_WORD = (
    r"(?:(?:tag|mark|id|number|letter|label|object|item|region|element|box)s?(?:\s+(?:number|no\.?))?"
    r"|no\.?|\#|标签|标记|编号|数字|序号)"
)
_IS_ON = (
    r"(?:is|are|marks|labels|shows|indicates|represents|denotes|corresponds\ to|refers\ to|points\ to|belongs\ to"
    r"|sits|appears)\b"
    r"(?:\s+(?:(?:placed|located|positioned|sitting)\s+)?(?:on\ top\ of|on|over|at|for)\b)?"
)
_ID = r"(?P<quote>[\"'`*_]?)(?P<id>\d{1,3})(?P=quote)"
_STOP = r"(?:[ \t]*(?:[.):：．、）](?!\d)|[-=]>|[→⇒➔➜=|\t])|\s*[-–—](?=\s))"
_MORE = r"(?P<more>(?:[ \t]*(?:[-–~,&至和]|to|and|through)[ \t]*(?:and[ \t]+)?\d{1,3}(?!\d))*)"  # "2-4", "1, 2 and 5"
_SHAPES = {
    "numbered": rf"{_ID}{_STOP}",
    "tagged": rf"(?:the\s+)?{_TAG_WORD}\s*[-_\#:]?\s*[\[(<]?{_ID}[\])>]?(?:{_STOP}|\s+{_IS_ON})",
    "bracketed": rf"[\[<【](?:{_TAG_WORD}\s*)?(?P<id>\d{{1,3}})[\]>】](?:{_STOP}|\s+{_IS_ON})?",
    "in parentheses": rf"[(（](?:{_TAG_WORD}\s*)?(?P<id>\d{{1,3}})[)）](?:{_STOP})?",
    "hashed": r"\#(?P<id>\d{1,3})(?=\s)",
    "bare": rf"(?P<id>\d{{1,3}})\s+{_IS_ON}",
}
_FLAGS = re.IGNORECASE | re.MULTILINE | re.VERBOSE
_BULLETS = r"^[ \t]*(?:[-*•·+>\#]+[ \t]+)*(?:\|[ \t]*)?"
_LINE_START = {shape: re.compile(_BULLETS + body.replace(_ID, _ID + _MORE), _FLAGS) for shape, body in _SHAPES.items()}
_INLINE = {
    shape: re.compile(
        rf"(?P<digit>\d\s*)?(?P<separator>[.,:]\s+(?:and\s+)?|;\s*(?:and\s+)?|[，；。、]\s*|(?<!\s)\s{{1,2}}(?:and|[-–/|])\s)"
        rf"{body}(?=\s*\S)",
        _FLAGS,
    )
    for shape, body in _SHAPES.items()
}
_UNSEPARATED = {  # "1. cat 2. dog"; where a sentence goes on behind the number, it is none
    shape: re.compile(
        rf"(?<!\S)(?P<word>\S*[^\s.,;:])[ \t]+(?P<marker>{marker})"
        r"(?=[ \t]+(?!(?:it|they|he|she|this|these|there)\b)\w)",
        _FLAGS,
    )
    for shape, marker in {
        "numbered": r"(?P<id>\d{1,3})[.):]",
        "bracketed": r"\[(?P<id>\d{1,3})\]",
        "in parentheses": r"\((?P<id>\d{1,3})\)",
    }.items()
}
_POINTS_AT = re.compile(
    rf"{_TAG_WORD}|and|or|to|with|than|of|at|in|on|by|as|from|like|near|behind|beside|under|above|below", _FLAGS
)
_NAKED = re.compile(  # "1 person", "Tag 1 person": only where there is nothing else, and the numbers count up
    rf"{_BULLETS}(?:{_TAG_WORD}\s*)?{_ID}(?:[ \t]+|[ \t]*\n)(?=[^\W\d])", _FLAGS
)
_JSON_PAIR = re.compile(
    r"""(?:["'](?:[a-z]+[\s_-]*)?(\d{1,3})["']|(?<=[{,])\s*(\d{1,3}))\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""",
    re.IGNORECASE,
)
_JSON_OBJECT = re.compile(r"""(?:["'](?:[a-z]+[\s_-]*)?(\d{1,3})["']\s*:\s*)?\{([^{}]*)\}""", re.IGNORECASE)
_JSON_FIELD = re.compile(
    r"""["'](\w+)["']\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\d{1,3}(?![\d.]))""", re.IGNORECASE
)
_ID_FIELD = re.compile(
    r"(?:tag|mark|label|object|item|region|element)?_?(?:id|tag|mark|number|num|no|index|label)", re.I
)
_TEXT_FIELDS = ("name", "description", "object", "label", "text", "caption", "content", "category", "class")
_NOTE = re.compile(
    r"(?:\n|[.!?,;]\s)[ \t]*\(?(?:please\s+)?note(?:\s+that\b|s?:|,)"
    r"|\n(?:let me know|i hope|feel free|if you (?:need|have))\b",
    re.IGNORECASE,
)
_LINE_BREAK = re.compile(r"\r\n?|<br ?/?>", re.IGNORECASE)
_MARKUP = re.compile(r"\*\*|__|\ufeff|\ufe0f|</s>|<\|\w{1,40}\|>|</?(?:li|ol|ul|p)>|^[ \t]*```.*$", re.MULTILINE | re.I)
_EMPHASIS = re.compile(r"([*_`]+)(.*)\1")

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
    """An item's number, or several, and where its marker begins and ends in the text."""

    ids: tuple[int, ...]
    begin: int
    end: int


def parse_listing(text: str) -> dict[int, str]:
    """{tag number: text} of a listing; {} when the text holds none."""
    return parse_items(text).by_id


def parse_items(text: str) -> ParsedListing:
    """Every item of a listing, in the order written. Never fails: a text without a listing has no items.

    "2-4. chairs" are three items.
    """
    text = plain_answer(text)
    if items := _json_items(text):
        return ParsedListing(tuple(items))
    starts = _item_starts(text)
    bounds = [start.begin for start in starts] + [len(text)]
    texts = [
        _item_text(text[start.end : end], is_last=start is starts[-1])
        for start, end in zip(starts, bounds[1:], strict=True)
    ]
    items = [ListedItem(number, said) for start, said in zip(starts, texts, strict=True) for number in start.ids]
    return ParsedListing(tuple(_by_tag(items)))


def plain_answer(text: str) -> str:
    """An answer without markup and without what stands before `</think>`, which is no part of it."""
    text = _LINE_BREAK.sub("\n", text.rpartition("</think>")[2])
    return _MARKUP.sub("", text).replace("\u20e3", ".")  # a keycap: 1 in a box


def _json_items(text: str) -> list[ListedItem]:
    """The items of {"1": "cat", ...} or [{"id": 1, "name": "cat"}, ...], in JSON or Python, whole or cut off."""
    items = []
    for key, body in _JSON_OBJECT.findall(text):
        values = {name.lower(): value for name, value in _JSON_FIELD.findall(body)}
        texts = {name: said for name, value in values.items() if not (said := _unquoted(value)).isdecimal()}
        numbers = [
            _unquoted(value) for name, value in values.items() if _ID_FIELD.fullmatch(name) and name not in texts
        ]
        said = next((texts[name] for name in _TEXT_FIELDS if name in texts), next(iter(texts.values()), ""))
        if said and (number := key or next(iter(numbers), "")):
            items.append(ListedItem(int(number), said))
    pairs = _JSON_PAIR.findall(text)
    return items or [ListedItem(int(quoted or plain), _unquoted(value)) for quoted, plain, value in pairs]


def _item_starts(text: str) -> list[_Start]:
    """The items of the shape that opens the most lines; without such a line, of the shape found most often."""
    opening = {
        shape: [_Start(_ids(found), found.start(), found.end()) for found in pattern.finditer(text)]
        for shape, pattern in _LINE_START.items()
    }
    shape = max(opening, key=lambda name: len(opening[name]))
    if opening[shape]:
        starts = _with_inline(text, shape, opening[shape])
        if shape in _UNSEPARATED:
            starts = _with_unseparated(text, shape, starts, several_on_a_line=len(opening[shape]) <= 1)
        return starts
    return max((_with_inline(text, shape, []) for shape in _SHAPES), key=len) or _naked_starts(text)


def _ids(found: re.Match[str]) -> tuple[int, ...]:
    """The number of a marker, or all numbers of "2-4" and "1, 2 and 5"."""
    numbers = [int(found["id"])]
    for joint, number in re.findall(r"(\D+)(\d+)", found.groupdict().get("more") or ""):
        is_range = re.search(r"[-–~至]|to|through", joint, re.IGNORECASE)
        numbers += range(numbers[-1] + 1, int(number) + 1) if is_range else [int(number)]
    return tuple(numbers)


def _naked_starts(text: str) -> list[_Start]:
    """Lines that begin with nothing but a number, where at least two count up one by one; other lines are no list."""
    starts = [_Start((int(found["id"]),), found.start(), found.end()) for found in _NAKED.finditer(text)]
    numbers = [start.ids[0] for start in starts]
    return starts if len(starts) > 1 and numbers == [*range(numbers[0], numbers[-1] + 1)] else []


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
            number, previous = int(found["id"]), merged[-1].ids[-1] if merged else 0
            if following is not None:
                is_item = previous < number < following.ids[0]
            elif found["separator"][0].isspace():  # "and" without a comma
                is_item = several_on_a_line and number == previous + 1 and not found["digit"]
            else:
                is_item = several_on_a_line and (number == previous + 1 or not found["digit"])
            if is_item:
                merged.append(_Start((number,), found.start("separator"), found.end()))
                several_on_a_line = True
        if following is not None:
            merged.append(following)
            position = following.end
    return merged


def _with_unseparated(text: str, shape: str, starts: list[_Start], several_on_a_line: bool) -> list[_Start]:
    """Add the items that follow the one before them on its line with nothing but a space between; only the next number.

    Like `_with_inline`: behind the last item only in a listing that puts several on a line.
    """
    merged: list[_Start] = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        merged.append(start)
        for found in _UNSEPARATED[shape].finditer(text, start.end, following.begin if following else len(text)):
            number = int(found["id"])
            allowed = number < following.ids[0] if following else several_on_a_line
            if allowed and number == merged[-1].ids[-1] + 1 and not _POINTS_AT.fullmatch(found["word"]):
                merged.append(_Start((number,), found.start("marker"), found.end()))
    return merged


def _item_text(raw: str, is_last: bool) -> str:
    """An item's words on one line, without the note or courtesy that may follow the last item.

    An item ends at a blank line. The last one also ends at "Note that", or where an unindented line follows a finished
    sentence: in the middle of a listing such a line is still the item's, at its end it is the closing remark.
    """
    if is_last and (note := _NOTE.search(raw)):
        raw = raw[: note.start()]
    first, *more = re.split(r"\n[ \t]*\n", raw.strip())[0].split("\n")
    words = first.strip()
    for line in more:
        if is_last and words.endswith((".", "!", "?", "。")) and not line[:1].isspace():
            break
        words = f"{words} {line.strip()}"
    return _trimmed(words)


def _by_tag(items: list[ListedItem]) -> list[ListedItem]:
    """The items of "1. Tag 3: a cat, 2. Tag 5: a dog", which are numbered and name their tags, by the tags.

    Where not all do, only a number that is said again ("1. [1] a cat") is left out.
    """
    inner = [_inner_items(item.text) for item in items]
    if len(items) > 1 and all(inner):
        return [tagged for several in inner for tagged in several]
    return [
        several[0] if several and several[0].id == item.id else item for item, several in zip(items, inner, strict=True)
    ]


def _inner_items(words: str) -> list[ListedItem]:
    """What the words of an item list themselves: "Tag 3: a cat", "[3] a cat", "Tags 3 and 4: cats"."""
    for shape in ("tagged", "bracketed"):
        if found := _LINE_START[shape].match(words):
            return [ListedItem(number, _trimmed(words[found.end() :])) for number in _ids(found)]
    return []


def _trimmed(words: str) -> str:
    """Without the punctuation that ends an item, the bar of a table, and emphasis around all of it."""
    words = words.strip().rstrip(" ,;.，；。|/")
    emphasised = _EMPHASIS.fullmatch(words)
    return emphasised[2].rstrip(" ,;.") if emphasised and emphasised[2] else words


def _unquoted(literal: str) -> str:
    body = literal[1:-1] if literal[0] in "\"'" else literal
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

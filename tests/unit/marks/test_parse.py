from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_som.marks import normalize_name, parse_items, parse_listing

THREE = {1: "person", 2: "cat", 3: "dog"}
SHAPES = {
    "numbered": "1. person\n2. cat\n3. dog",
    "parentheses": "1) person\n2) cat\n3) dog",
    "colons": "1: person\n2: cat\n3: dog",
    "bold": "**1.** person\n**2.** cat\n**3.** dog",
    "windows lines": "1. person\r\n2. cat\r\n3. dog\r\n",
    "blank lines": "1. person\n\n2. cat\n\n3. dog\n",
    "tag is on": "- Tag 1 is on person.\n- Tag 2 is on cat.\n- Tag 3 is on dog.",
    "tag colon": "Tag 1: person\nTag #2: cat\ntag-3: dog",
    "is on": "1 is on person ,\n2 is on cat ,\n3 is on dog",
    "is on, one line": "1 is on person , 2 is on cat , 3 is on dog",
    "brackets": "[1] person\n[2] cat\n[3] dog",
    "brackets, one line": "[1] person, [2] cat, [3] dog.",
    "json": '{"1": "person", "2": "cat", "3": "dog"}',
    "json, cut off": 'Sure:\n```json\n{\n  "1": "person",\n  "2": "cat",\n  "3": "dog",\n  "4": "a hal',
    "python dict": "{1: 'person', 2: 'cat', 3: 'dog'}",
    "json, named keys": '{"tag_1": "person", "Tag 2": "cat", "3": "dog"}',
    "one line": "1. person, 2. cat, 3. dog.",
    "one line, and": "1. person, 2. cat, and 3. dog.",
    "wrapped": "1. person, 2. cat,\n3. dog.",
    "lead-in": "There are three tagged objects:\n\n1. person\n2. cat\n3. dog",
    "lead-in, one line": "There are 3 tagged objects: 1. person, 2. cat, 3. dog.",
    "note": "1. person\n2. cat\n3. dog\n\nNote: tag 2 overlaps tag 3, and 1. may be a statue.",
    "note, same line": "1. person, 2. cat, 3. dog. Please note that tag 2 is blurred.",
    "note, next line": "1. person.\n2. cat.\n3. dog.\nTags 1 and 2 are close to each other.",
    "note, repeated tag": "Tag 1: person\nTag 2: cat\nTag 3: dog\n\nTag 2 is on something unclear.",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape(text):
    assert parse_listing(text) == THREE


def test_items_may_span_lines_and_point_at_each_other():
    text = (
        "The photo shows five tagged things.\n\n"
        "1. Branches of the same tree as tag-1,\n   seen from below.\n"
        "2. A bird on top of the giraffe with id 2. It looks left.\n"
        "Its beak is open.\n"
        "3. A giraffe next to tags 2, 4. It is tall.\n"
        "4. Grass, possibly the same as [3], behind tags 4, 5. It is dry"
    )
    assert parse_listing(text) == {
        1: "Branches of the same tree as tag-1, seen from below",
        2: "A bird on top of the giraffe with id 2. It looks left. Its beak is open",
        3: "A giraffe next to tags 2, 4. It is tall",
        4: "Grass, possibly the same as [3], behind tags 4, 5. It is dry",
    }


def test_one_line_answers_keep_their_mistakes():
    parsed = parse_items("1. red circle, 1. red circle, 4. blue square, 2. green star.")
    assert [(item.id, item.text) for item in parsed.items] == [
        (1, "red circle"),
        (1, "red circle"),
        (4, "blue square"),
        (2, "green star"),
    ]
    assert parsed.ids == [1, 1, 4, 2] and parsed.duplicates == [1]


def test_the_first_mention_stands_and_empty_items_are_items():
    parsed = parse_items("1. cat\n2.\n1. dog")
    assert parsed.by_id == {1: "cat", 2: ""} and parsed.ids == [1, 2, 1] and parsed.duplicates == [1]


@pytest.mark.parametrize("text", ["", "  \n", "I cannot see any tags in this image.", "It was taken at 10:30 in 1990."])
def test_no_listing(text):
    assert parse_items(text).items == ()


def test_numbers_inside_names():
    assert parse_listing("1. bus 42, 2. a 2.5 m pole, 3. clock at 10:30") == {
        1: "bus 42",
        2: "a 2.5 m pole",
        3: "clock at 10:30",
    }


WORDS = st.sampled_from(["cat", "red", "left", "hand", "glass", "of", "note", "id", "tag", "number", "on", "it", "as"])
NAMES = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=30)
TEMPLATES = st.sampled_from(
    [("{}. {}", "\n"), ("{}. {}", ", "), ("- Tag {} is on a {}.", "\n"), ("[{}] {}", "\n"), ("{} is on a {}", " , ")]
)


@given(NAMES, TEMPLATES)
def test_what_is_listed_is_read_back(names, template):
    item, separator = template
    text = separator.join(item.format(number, name) for number, name in enumerate(names, start=1))
    read = parse_listing(text)
    expected = {number: f"a {name}" if " a " in item else name for number, name in enumerate(names, start=1)}
    assert read == expected


@given(st.text())
def test_any_text_can_be_read(text):
    assert all(number >= 0 for number in parse_items(text).ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Cat.", "cat"),
        ("the dining tables", "dining table"),
        ("People", "person"),
        ("an  old, red BUS!", "old red bus"),
        ("buses", "bus"),
        ("glasses", "glass"),
        ("wine glass", "wine glass"),
        ("ponies", "pony"),
        ("ties", "tie"),
        ("sandwiches", "sandwich"),
        ("The", "the"),
        ("", ""),
    ],
)
def test_names_are_compared_without_article_and_plural(text, expected):
    assert normalize_name(text) == expected


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    assert normalize_name(normalize_name(text)) == normalize_name(text)


@pytest.mark.parametrize(
    "text", ["1. a\n" * 20000, "1. a" + "\n" * 50000, "1. a, " * 20000], ids=["lines", "blank", "inline"]
)
def test_a_runaway_answer_is_read_in_time(text):
    start = time.process_time()
    listing = parse_items(text)
    assert (listing.duplicates or [1]) == [1] and listing.by_id[1].startswith("a")
    assert time.process_time() - start < 3

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
    "one line, no separators": "1. person 2. cat 3. dog",
    "one line, parentheses only": "1) person 2) cat 3) dog.",
    "one line, half separated": "1. person 2. cat, 3. dog",
    "lines, two on one": "1. person 2. cat\n3. dog",
    "one line, and": "1. person, 2. cat, and 3. dog.",
    "wrapped": "1. person, 2. cat,\n3. dog.",
    "lead-in": "There are three tagged objects:\n\n1. person\n2. cat\n3. dog",
    "lead-in, one line": "There are 3 tagged objects: 1. person, 2. cat, 3. dog.",
    "note": "1. person\n2. cat\n3. dog\n\nNote: tag 2 overlaps tag 3, and 1. may be a statue.",
    "note, same line": "1. person, 2. cat, 3. dog. Please note that tag 2 is blurred.",
    "note, next line": "1. person.\n2. cat.\n3. dog.\nTags 1 and 2 are close to each other.",
    "courtesy, next line": "1. person\n2. cat\n3. dog\nLet me know if you need more about tag 2!",
    "bullets on one line": "- Tag 1: person, - Tag 2: cat, - Tag 3: dog",
    "note, repeated tag": "Tag 1: person\nTag 2: cat\nTag 3: dog\n\nTag 2 is on something unclear.",
    "in parentheses": "(1) person\n(2) cat\n(3) dog",
    "in parentheses, one line": "(1) person, (2) cat, (3) dog",
    "in parentheses, no separators": "(1) person (2) cat (3) dog",
    "brackets, no separators": "[1] person [2] cat [3] dog",
    "angle brackets": "<1>: person\n<2>: cat\n<3>: dog",
    "tag in brackets": "[Tag 1] person\n[Tag 2] cat\n[Tag 3] dog",
    "hashed": "#1 person\n#2 cat\n#3 dog",
    "hashed, one line": "#1 person, #2 cat, #3 dog",
    "arrows": "Tag 1 -> person\nTag 2 → cat\nTag 3 => dog",
    "equals": "1 = person\n2 = cat\n3 = dog",
    "equals, one line": "1=person, 2=cat, 3=dog",
    "bold number": "**1** person\n**2** cat\n**3** dog",
    "bold number, colon": "- **1**: person\n- **2**: cat\n- **3**: dog",
    "bold tag as heading": "**Tag 1**\nperson\n\n**Tag 2**\ncat\n\n**Tag 3**\ndog",
    "headings": "## Tag 1\nperson\n## Tag 2\ncat\n## Tag 3\ndog",
    "bold item": "1. **person**\n2. *cat*\n3. `dog`",
    "code": "`1`: person\n`2`: cat\n`3`: dog",
    "code fence": "```markdown\n1. person\n2. cat\n3. dog\n```",
    "table": "| Tag | Object |\n|-----|--------|\n| 1 | person |\n| 2 | cat |\n| 3 | dog |",
    "table, bold": "| # | Object |\n|:-:|:--|\n| **1** | person |\n| **2** | cat |\n| **3** | dog |",
    "html list": "<li>1. person</li>\n<li>2. cat</li>\n<li>3. dog</li>",
    "html breaks": "1. person<br/>2. cat<br>3. dog<br />",
    "old line ends": "1. person\r2. cat\r3. dog",
    "byte order mark": "\ufeff1. person\n2. cat\n3. dog",
    "end tokens": "1. person\n2. cat\n3. dog</s><|im_end|>",
    "thoughts": "<think>\nTag 1: a tree? 2. a fox, 3: dog\n</think>\n\n1. person\n2. cat\n3. dog",
    "thoughts without their begin": "Let me look. 1. tree, 2. car</think>1. person\n2. cat\n3. dog",
    "said twice": "1. Tag 1: person\n2. [2] cat\n3. Tag 3 is on dog",
    "and without a comma": "1. person, 2. cat and 3. dog",
    "slashes": "1. person / 2. cat / 3. dog",
    "semicolons": "1. person;2. cat;3. dog",
    "keycaps": "1\ufe0f\u20e3 person\n2\ufe0f\u20e3 cat\n3\ufe0f\u20e3 dog",
    "only numbers": "1 person\n2 cat\n3 dog",
    "only tabs": "1\tperson\n2\tcat\n3\tdog",
    "tag alone": "Tag 1 person\nTag 2 cat\nTag 3 dog",
    "represents": "Tag 1 represents person\nTag 2 corresponds to cat\nTag 3 denotes dog",
    "enumeration comma": "1、person\n2、cat\n3、dog",
    "wide colon": "1：person\n2：cat\n3：dog",
    "wide digits": "１．person\n２．cat\n３．dog",
    "wide parentheses": "（1）person\n（2）cat\n（3）dog",
    "chinese tags, one line": "标签1：person；标签2：cat；标签3：dog。",
    "chinese commas": "1. person，2. cat，3. dog。",
    "json objects": '```json\n[{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]\n```',
    "json objects, id last": '[{"label": "person", "tag": 1}, {"label": "cat", "tag": 2}, {"label": "dog", "tag": 3}]',
    "json objects, texts": '{"tags": [{"number": "1", "object": "person"}, {"number": "2", "object": "cat"}, '
    '{"number": "3", "object": "dog", "box": [1, 2, 3, 4]}]}',
    "json objects, cut off": '[{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}, {"id',
    "json objects by number": '{"1": {"name": "person"}, "2": {"name": "cat"}, "tag_3": {"name": "dog"}}',
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape(text):
    assert parse_listing(text) == THREE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. Tag 1: person\n2. Tag 3: dog", {1: "person", 3: "dog"}),
        ("1. [3] dog, 2. [1] person", {3: "dog", 1: "person"}),
        ("1. Tags 2 and 3 are on dogs.\n2. Tag 1 is on a person.", {2: "dogs", 3: "dogs", 1: "a person"}),
        ("1. person\n2. Tag 3: a sign", {1: "person", 2: "Tag 3: a sign"}),
        ("1. Tag 3: a sign", {1: "Tag 3: a sign"}),
    ],
)
def test_a_numbered_list_whose_items_all_name_their_tags_goes_by_the_tags(text, expected):
    assert parse_listing(text) == expected


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


@pytest.mark.parametrize(
    "text", ["1. a cat next to tag 2. It sleeps", "1. a clock at 2. They wait", "1. a cat, 2. a dog like 3. it barks"]
)
def test_a_number_inside_a_sentence_opens_no_item(text):
    assert parse_items(text).ids == [1, 2][: text.count(", ") + 1]


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. table\n2-4: chairs\n5. lamp", ["table", "chairs", "chairs", "chairs", "lamp"]),
        ("Tags 1 and 2: chairs\nTag 3: lamp", ["chairs", "chairs", "lamp"]),
        ("1, 2, 3: chairs\n4: lamp", ["chairs", "chairs", "chairs", "lamp"]),
        ("Tags 1 to 3 are on chairs.", ["chairs", "chairs", "chairs"]),
        ("1 - 2 chairs\n2 - lamp", ["2 chairs", "lamp"]),
        ("1) 2-4 people\n2) 5-7 dogs", ["2-4 people", "5-7 dogs"]),
    ],
)
def test_one_item_may_speak_of_several_numbers(text, expected):
    assert list(parse_listing(text).values()) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "  \n", "I cannot see any tags in this image.", "It was taken at 10:30 in 1990.", "3 dogs\n5 cats"),
        *("There are 3 dogs (2 brown, 1 black).", "I can see tags 1, 2, 3.", "The man (1) and the dog (2) play."),
        *(
            "Chapter 1. The sea",
            "In 2024, 3 people sat down, 2 of them at 9.",
            '["person", "cat"]',
            "2024: a good year",
        ),
    ],
)
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


PIECES = ["1. ", "a", " ", "\n", ", ", "(", "[", "{", '"1": ', "**", "- ", "|", "#", "1,", "1-", "and ", "Tag 1 ", "\\"]
PIECES += ["'", '{"id": ', "<|", "</think>", "is on ", "`", "_"]


@pytest.mark.parametrize("piece", PIECES)
def test_no_repetition_takes_long(piece):
    start = time.process_time()
    for other in PIECES[::3]:
        parse_items((piece + other) * 3000)
    assert time.process_time() - start < 2

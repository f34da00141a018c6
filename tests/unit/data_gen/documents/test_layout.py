from random import Random

import pytest

from data_gen.documents.layout import blocks_of_words, rows_of
from data_gen.documents.text import lines_text, page_text, spaces
from llava_som.data.page_record import PageRecord, Word

WIDE = 10  # pixels a character


def words(text, left=0, top=0, height=14):
    """The words of a line; every character, blanks too, is ten pixels wide."""
    found, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        found.append(Word(text=word, box=(left + WIDE * at, top, left + WIDE * (at + len(word)), top + height)))
        at += len(word)
    return found


def page(*lines):
    """Lines (text, left, top) as a page, its words in random order."""
    found = [word for line in lines for word in words(*line)]
    Random(1).shuffle(found)
    return PageRecord(size=(900, 900), kind="document", blocks=blocks_of_words(found))


def two_columns():
    left = ["Left first line", "left second line", "left third line", "left last line"]
    right = ["right first line", "right second line", "right third line", "right last line"]
    rows = [(text, 0, 60 + 18 * k) for k, text in enumerate(left)]
    rows += [(text, 260, 63 + 18 * k) for k, text in enumerate(right)]
    return page(("A title across both of the columns", 40, 10), *rows), left, right


def test_gaps_become_as_many_spaces_as_fit_one_to_four():
    assert [spaces(gap, 10) for gap in (-30, 0, 4, 17, 18, 27, 28, 37, 38, 900)] == [1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert page_text(page(("a b  c   d    e         f", 0, 0))) == "a b  c   d    e    f"


def test_leaders_are_four_signs_however_long_they_are():
    dotted = page(("1 Walks . . . . . . . . . . . . 12", 0, 0), ("Boats................. 9", 0, 20))
    assert page_text(dotted) == "1 Walks .... 12\nBoats.... 9"
    (leader,) = [word for word in dotted.words if word.text == "...."]
    assert leader.box == (80, 0, 310, 14)
    form = page(("Name: _ _ _ _ _ _ Date:__________", 0, 0), ("Wait... and so on - - -", 0, 20))
    assert page_text(form) == "Name: ____ Date:____\nWait... and so on - - -"


def test_words_in_any_order_become_lines_from_left_to_right_and_top_to_bottom():
    assert page_text(page(("second line", 0, 20), ("third", 0, 40), ("first", 0, 0))) == "first\nsecond line\nthird"


def test_small_words_and_slanted_lines_stay_in_their_row():
    slanted = [Word(text=str(k), box=(30 * k, 20 + k, 30 * k + 20, 36 + k)) for k in range(8)]
    below = [Word(text="x", box=(0, 41, 20, 57))]
    raised = [Word(text="2", box=(600, 18, 606, 26))]  # half as high, at the upper edge of its neighbour
    beside = [Word(text="m", box=(580, 20, 600, 36))]
    assert [[word.text for word in row] for row in rows_of(below + slanted)] == [list("01234567"), ["x"]]
    assert [[word.text for word in row] for row in rows_of(raised + beside)] == [["m", "2"]]


def test_columns_are_read_across_or_one_after_the_other():
    record, left, right = two_columns()
    title = "A title across both of the columns"
    assert page_text(record, "columns").split("\n") == [title, *left, *right]
    across = page_text(record, "rows").split("\n")
    assert [line.split() for line in across] == [title.split(), *((a + " " + b).split() for a, b in zip(left, right))]  # noqa: B905


def test_blocks_are_paragraphs_within_a_column():
    record, left, right = two_columns()
    assert [lines_text(block.lines).split("\n") for block in record.blocks] == [
        ["A title across both of the columns"],
        left,
        right,
    ]
    apart = page(("one one", 0, 0), ("one two", 0, 18), ("two one", 0, 60), ("two two", 0, 78))
    assert [len(block.lines) for block in apart.blocks] == [2, 2]
    heading = page(("small text", 0, 40), ("small text", 0, 58))
    assert len(heading.blocks) == 1


def test_a_name_and_its_value_are_no_columns():
    form = page(("Name           Ada", 0, 0), ("Born           1815", 0, 40))
    assert page_text(form, "columns") == page_text(form, "rows") == "Name    Ada\nBorn    1815"


@pytest.mark.parametrize("seed", range(5))
def test_no_word_is_lost_however_words_lie(seed):
    rng = Random(seed)
    boxes = [(rng.randint(0, 800), rng.randint(0, 800), rng.randint(1, 90), rng.randint(1, 60)) for _ in range(60)]
    found = [Word(text=f"w{k}", box=(x, y, x + w, y + h)) for k, (x, y, w, h) in enumerate(boxes)]
    record = PageRecord(size=(900, 900), kind="document", blocks=blocks_of_words(found))
    for reading in ("rows", "columns"):
        assert sorted(page_text(record, reading).split()) == sorted(word.text for word in found)

"""Texts and boxes recomputed from a page whose every character is ten pixels wide."""

import re
from random import Random

import pytest

from data_gen.documents.localisation import EXCERPTS, locate, places, recognise
from llava_som.data.text_boxes import decode_boxes
from tests.unit.data_gen.documents.pages import HIGH, MINUTES, STEP, WIDE, text_page

PAGE = text_page(MINUTES)
GRAINS = ["word", "phrase", "line", "block"]


def found(page, grain, seed, min_word_area=0.0):
    return list(places(page, grain, min_word_area, Random(seed)))


def box_in(text, page_text):
    """Where a text of whole lines, or of a part of one, stands on a page: by counting characters."""
    lines, parts = page_text.split("\n"), text.split("\n")
    for row in range(len(lines) - len(parts) + 1):
        if all(f" {part} " in f" {lines[row + k]} " for k, part in enumerate(parts)):
            spans = [(f" {lines[row + k]} ".index(f" {part} "), len(part)) for k, part in enumerate(parts)]
            left, right = min(at for at, _ in spans), max(at + length for at, length in spans)
            return WIDE * left, STEP * row, WIDE * right, STEP * (row + len(parts) - 1) + HIGH
    raise AssertionError(f"{text!r} is not on the page")


@pytest.mark.parametrize("grain", GRAINS)
def test_every_place_is_where_its_text_stands(grain):
    for seed in range(30):
        for text, box in found(PAGE, grain, seed):
            assert box == box_in(text, MINUTES), text


def test_sizes_are_what_their_names_say():
    for seed in range(30):
        assert all(" " not in text for text, _ in found(PAGE, "word", seed))
        for text, _ in found(PAGE, "phrase", seed):
            (line,) = [line for line in MINUTES.split("\n") if text in line]
            assert 2 <= len(text.split()) < len(line.split()) and len(text.split()) <= 5
        assert {text for text, _ in found(PAGE, "line", seed)} == set(MINUTES.split("\n"))
        assert all(len(text.split("\n")) == 2 for text, _ in found(PAGE, "block", seed))  # half of four
    assert len({text for seed in range(30) for text, _ in found(PAGE, "block", seed)}) == 3


def test_what_stands_there_twice_is_never_asked_for():
    text = "one two three\none two four\nthree two one\nfive six seven"
    page = text_page(text)
    assert {place.text for place in found(page, "word", 0)} == {"four", "five", "six", "seven"}
    phrases = {place.text for seed in range(60) for place in found(page, "phrase", seed)}
    assert "one two" not in phrases and {"two three", "two four", "three two", "two one"} <= phrases
    twice = text_page("same line\nsame line\nother line")
    assert {place.text for place in found(twice, "line", 0)} == {"other line"}
    assert found(text_page("cat category"), "word", 0)[0].text  # a part of a longer word is another word


def test_what_overlaps_itself_stands_there_twice():
    page = text_page("see ten ten ten below")
    asked = {place.text for seed in range(60) for place in found(page, "phrase", seed)}
    assert "ten ten" not in asked and {"see ten", "ten ten ten", "ten below"} <= asked


def test_the_same_word_in_capitals_or_before_a_comma_is_the_same_word():
    page = text_page("Revenue by city\nrevenue: (high)\nhigh, low")
    assert {place.text for place in found(page, "word", 0)} == {"by", "city", "low"}


def test_a_phrase_begins_and_ends_with_a_word():
    page = text_page("Index .... 32\n- 5 pounds")
    asked = {place.text for seed in range(60) for place in found(page, "phrase", seed)}
    assert asked == {"5 pounds"}
    assert {place.text for place in found(page, "line", 0)} == {"Index .... 32", "- 5 pounds"}


def test_small_words_and_signs_without_letters_are_left_out():
    page = text_page("a bb ccc -- 1", size=(100, 100))
    limit = 2 * WIDE * HIGH / 100**2
    assert {text for text, _ in found(page, "word", 0, limit)} == {"bb", "ccc"}
    assert {text for text, _ in found(page, "word", 0)} == {"a", "bb", "ccc", "1"}


def test_questions_and_answers_name_the_same_text_and_place():
    chosen = found(PAGE, "word", 3)[:4]
    for ask in (locate, recognise):
        turns = ask(PAGE, chosen, Random(0))
        assert [turn.speaker for turn in turns] == ["human", "gpt"] * 4
        assert "".join(turn.text for turn in turns).count("<image>\n") == 1 and turns[0].text.startswith("<image>\n")
        for place, human, gpt in zip(chosen, turns[::2], turns[1::2], strict=True):
            asks, answers = (human, gpt) if ask is locate else (gpt, human)
            assert re.findall(r"<ocr> (.*) </ocr>", asks.text) == [place.text]
            (box,) = decode_boxes(answers.text, PAGE.size)
            assert box == pytest.approx(place.box, abs=0.5 / 999 * 640)


@pytest.mark.parametrize("grain", GRAINS)
def test_a_page_of_one_word_has_only_that(grain):
    assert [place.text for place in found(text_page("alone"), grain, 0)] == (["alone"] if grain == "word" else [])
    assert set(EXCERPTS) == set(GRAINS)

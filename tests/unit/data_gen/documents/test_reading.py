import re
from random import Random

import pytest

from data_gen.documents.reading import continuation, look_up_pages, parse, parse_pages, target
from tests.unit.data_gen.documents.pages import AGENDA, LETTER, MINUTES, text_page

SHOWN = [text_page(text) for text in (MINUTES, AGENDA, LETTER)]


def said(turns):
    human, gpt = turns
    return human.text, gpt.text


def test_the_target_is_tagged_after_the_kind_of_page():
    assert target(text_page("a  b\nc"), "rows") == "<doc> a  b\nc </doc>"
    assert target(text_page("x", kind="table", markdown="| a |\n| --- |"), "rows") == "<md> | a |\n| --- | </md>"
    assert target(text_page("STOP", kind="photo"), "rows") == "<ocr> STOP </ocr>"
    assert target(text_page("STOP", kind="photo", caption="A sign."), "rows") == "A sign. <ocr> STOP </ocr>"


@pytest.mark.parametrize(
    ("kind", "asks"), [("table", "arkdown"), ("chart", "arkdown"), ("photo", "text|wor|wri|letter")]
)
def test_every_kind_is_asked_for_in_words_of_its_own(kind, asks):
    page = text_page("x y", kind=kind, markdown="| a |" if kind in ("table", "chart") else None)
    questions = {said(parse(page, "rows", Random(seed)))[0] for seed in range(60)}
    assert len(questions) > 5 and all(re.search(asks, question) for question in questions)
    assert all(question.startswith("<image>\n") for question in questions)


def test_beginning_and_rest_of_a_continued_page_are_the_whole_page():
    cuts = set()
    for seed in range(40):
        question, rest = said(continuation(SHOWN[0], "rows", Random(seed)))
        start = question.partition("<doc> ")[2]
        assert f"{start}\n{rest}" == f"{MINUTES} </doc>" and start
        cuts.add(start)
    assert len(cuts) == 3  # wherever a line ends
    assert continuation(text_page("one line"), "rows", Random(0)) is None


def test_one_or_two_of_several_pages_are_read_in_their_order():
    texts, counts = [MINUTES, AGENDA, LETTER], set()
    for seed in range(40):
        question, answer = said(parse_pages(SHOWN, "rows", Random(seed)))
        assert question.count("<image>\n") == 3 and question.startswith("<image>\n" * 3)
        found = re.findall(r"<doc (\d)> (.*?) </doc \1>", answer, re.DOTALL)
        assert " ".join(f"<doc {k}> {text} </doc {k}>" for k, text in found) == answer
        numbers = [int(k) for k, _ in found]
        assert numbers == sorted(set(numbers)) and [text for _, text in found] == [texts[k - 1] for k in numbers]
        assert re.findall(r"page (\d)", question) == [k for k, _ in found]
        counts.add(len(found))
    assert counts == {1, 2}


def test_texts_are_looked_up_in_the_order_in_which_they_are_given():
    texts = [MINUTES, AGENDA, LETTER]
    for seed in range(40):
        question, answer = said(look_up_pages(SHOWN, "rows", Random(seed)))
        given = re.findall(r"<doc> (.*?) </doc>", question, re.DOTALL)
        assert answer == " ".join(f"<img {texts.index(text) + 1}>" for text in given) and given
        assert bool(re.search("texts|each|these are", question.partition("<doc>")[0])) == (len(given) == 2)


def test_a_text_that_stands_on_two_pages_is_never_looked_up():
    same = [SHOWN[1], SHOWN[0], text_page(AGENDA)]
    assert {said(look_up_pages(same, "rows", Random(seed)))[1] for seed in range(20)} == {"<img 2>"}
    assert look_up_pages([SHOWN[1], text_page(AGENDA)], "rows", Random(0)) is None

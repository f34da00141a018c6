import pytest
from PIL import Image

from data_gen.documents.checks import check_page
from data_gen.requests import Rejected
from data_gen.sources.base import Page
from tests.unit.data_gen.documents.pages import text_page


def page(text, **known):
    return Page(Image.new("RGB", (9, 9)), "document", text_page(text).blocks, **known)


@pytest.mark.parametrize("word", ["<image>", "<|image|>", "</doc>", "</md>", "</ocr>", "</s>", "<s>", "<|im_end|>"])
def test_what_training_would_not_read_as_text_is_refused(word):
    for said in (page(f"we write {word} here"), page("x", markdown=f"| {word} |"), page("x", caption=word)):
        with pytest.raises(Rejected, match="reserved words: the page says"):
            check_page(said)
    check_page(page("images <b>bold</b> a|b <doctor> s> 3 <| 4 |>"))


def test_text_from_right_to_left_is_refused_and_a_name_in_it_is_not():
    with pytest.raises(Rejected, match="right-to-left script: 11 of 13 letters"):
        check_page(page("שלום עולם ab ابج"))
    check_page(page("The Hebrew letter א begins the alphabet, says this long line"))


def test_a_page_without_a_word_is_refused():
    with pytest.raises(Rejected, match="no text"):
        check_page(Page(Image.new("RGB", (9, 9)), "table", (), markdown="| a |"))

import re

import pytest
from PIL import Image

from eval.docowl_jsonl import pages, question, reference


def row(*turns, images=1):
    return {
        "image": [f"{number}.png" for number in range(images)],
        "messages": [{"role": role, "content": text} for role, text in turns],
    }


def test_the_question_is_what_stands_before_the_answer_without_placeholders():
    line = row(("user", "<|image|><|image|>What is it?"), ("assistant", "A letter."), images=2)
    assert (question(line), reference(line)) == ("What is it?", "A letter.")
    line = row(("system", "Be brief."), ("user", "<|image|> Who?"), ("assistant", "Ann"))
    assert question(line) == "Be brief.\nWho?"


@pytest.mark.parametrize("images", [0, 2])
def test_another_number_of_placeholders_than_images_is_an_error(images):
    with pytest.raises(ValueError, match=re.escape(f"has 1 <|image|> for {images} images")):
        question(row(("user", "<|image|>What?"), ("assistant", "x"), images=images))


def test_a_row_of_several_questions_is_an_error():
    turns = ("user", "<|image|>Who?"), ("assistant", "Ann"), ("user", "When?"), ("assistant", "1998")
    with pytest.raises(ValueError, match=r"asks several questions.*a row for each"):
        question(row(*turns))


def test_a_row_without_an_answer_is_an_error():
    with pytest.raises(ValueError, match="last turn is of the user"):
        reference(row(("system", "Be brief."), ("user", "<|image|>Who?")))


def test_pages_are_read_in_order_and_stay_in_the_folder(tmp_path):
    for number in range(2):
        Image.new("RGB", (4 + number, 4)).save(tmp_path / f"{number}.png")
    line = row(images=2) | {"root": str(tmp_path)}
    assert [page.size for page in pages(line)] == [(4, 4), (5, 4)]
    with pytest.raises(ValueError, match="outside the image root"):
        pages(line | {"image": ["../0.png"]})

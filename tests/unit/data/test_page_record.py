import pytest

from llava_som.data.page_record import Block, Line, PageRecord, Word, around, page_sidecar_path


def line(*texts, top=0):
    return Line(words=tuple(Word(text=text, box=(20 * k, top, 20 * k + 15, top + 10)) for k, text in enumerate(texts)))


def test_a_record_comes_back_from_its_file_with_words_lines_and_boxes(tmp_path):
    blocks = (Block(lines=(line("one", "two"), line("three", top=12))), Block(lines=(line("four", top=40),)))
    record = PageRecord(image="0001.png", size=(90, 60), kind="table", blocks=blocks, markdown="| a |", file="x.pdf")
    path = page_sidecar_path(tmp_path / "0001.png")
    path.write_text(record.to_json())
    assert path.name == "0001.page.json" and PageRecord.load(path) == record
    assert [word.text for word in record.words] == ["one", "two", "three", "four"]
    assert record.lines[0].text == "one two" and record.blocks[0].box == (0, 0, 35, 22)
    assert around([(5, 5, 6, 6), (1, 9, 2, 12)]) == (1, 5, 6, 12)


@pytest.mark.parametrize("content", ["", "{}", '{"size": [1, 1], "kind": "novel", "blocks": []}'])
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    (tmp_path / "a.page.json").write_text(content)
    with pytest.raises(ValueError, match=r"a.page.json is not a readable page sidecar"):
        PageRecord.load(tmp_path / "a.page.json")

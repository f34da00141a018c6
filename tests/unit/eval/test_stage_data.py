import json
import os

import pytest

from eval.staged_data import file_for, stage_data


@pytest.fixture
def data(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    file = tmp_path / "eval.jsonl"
    file.write_text('{"id": "1", "image": "a.png"}\n\n')
    return file


def test_rows_learn_the_folder_their_paths_are_relative_to(data, tmp_path):
    staged = stage_data(data, tmp_path, tmp_path / "work")
    assert [json.loads(line) for line in staged.open()] == [{"id": "1", "image": "a.png", "root": str(tmp_path)}]


def test_the_same_content_keeps_its_name_and_a_change_gets_another(data, tmp_path):
    first = stage_data(data, tmp_path, tmp_path / "work")
    assert stage_data(data, tmp_path, tmp_path / "work") == first
    os.utime(tmp_path / "a.png", ns=(1, 1))
    touched = stage_data(data, tmp_path, tmp_path / "work")
    data.write_text('{"id": "2", "image": "a.png"}\n')
    assert len({first, touched, stage_data(data, tmp_path, tmp_path / "work")}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line"),
        ('{"id": 1}\n{"id": ', r"eval\.jsonl:2: is not JSON"),
        ("[1]", r"eval\.jsonl:1: must be a JSON object, found list"),
        ('{"image": "b.png"}', r"eval\.jsonl:1: its image 'b\.png' does not exist"),
    ],
)
def test_malformed_data_is_named_by_file_and_line(data, tmp_path, text, message):
    data.write_text(text)
    with pytest.raises(ValueError, match=message):
        stage_data(data, tmp_path, tmp_path / "work")


def test_text_that_is_not_utf_8_is_named_too(data, tmp_path):
    data.write_bytes(b'{"id": "1"}\n{"id": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"eval\.jsonl:2: is not JSON .*utf-8"):
        stage_data(data, tmp_path, tmp_path / "work")


def test_rows_of_several_images_are_checked_one_by_one(data, tmp_path):
    data.write_text('{"image": ["a.png", "b.png"]}\n')
    with pytest.raises(ValueError, match=r"its image 'b\.png' does not exist"):
        stage_data(data, tmp_path, tmp_path / "work")
    (tmp_path / "b.png").write_bytes(b"b")
    before = stage_data(data, tmp_path, tmp_path / "work")
    os.utime(tmp_path / "b.png", ns=(1, 1))
    assert stage_data(data, tmp_path, tmp_path / "work") != before


def test_a_task_reads_a_file_or_one_of_a_folder(data, tmp_path):
    assert file_for("$data", str(data), "t") == (data, tmp_path)
    (tmp_path / "test").mkdir()
    data.rename(tmp_path / "test/X.jsonl")
    assert file_for("$data/test/X.jsonl", str(tmp_path), "t") == (tmp_path / "test/X.jsonl", tmp_path)


@pytest.mark.parametrize(
    ("placeholder", "given", "message"),
    [
        ("$data", "nothing.jsonl", r"nothing\.jsonl: no such file. The task 't' reads eval\.jsonl"),
        ("$data", "", "no such file. The task 't'"),
        ("$data/test/X.jsonl", "eval.jsonl", r"no such folder. The task 't' reads test/X\.jsonl"),
        ("$data/test/X.jsonl", "", r"has no test/X\.jsonl, which the task 't' reads"),
    ],
)
def test_data_of_the_wrong_kind_is_named(data, tmp_path, placeholder, given, message):
    with pytest.raises(ValueError, match=message):
        file_for(placeholder, str(tmp_path / given), "t")

import json
import os

import pytest

from eval.task_index import stage_data


@pytest.fixture
def data(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    file = tmp_path / "eval.jsonl"
    file.write_text('{"id": "1", "image": "a.png"}\n\n')
    return file


def test_rows_learn_the_folder_their_paths_are_relative_to(data, tmp_path):
    staged = stage_data(data, tmp_path / "work")
    assert [json.loads(line) for line in staged.open()] == [{"id": "1", "image": "a.png", "root": str(tmp_path)}]


def test_the_same_content_keeps_its_name_and_a_change_gets_another(data, tmp_path):
    first = stage_data(data, tmp_path / "work")
    assert stage_data(data, tmp_path / "work") == first
    os.utime(tmp_path / "a.png", ns=(1, 1))
    touched = stage_data(data, tmp_path / "work")
    data.write_text('{"id": "2", "image": "a.png"}\n')
    assert len({first, touched, stage_data(data, tmp_path / "work")}) == 3


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
        stage_data(data, tmp_path / "work")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.jsonl: no such file"):
        stage_data(tmp_path / "nothing.jsonl", tmp_path)

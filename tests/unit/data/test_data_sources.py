import json

import pyarrow
import pyarrow.parquet
import pytest

from llava_som.data import sources
from llava_som.data.sources import DataFile, RecordTable, load_records
from llava_som.quarantine import Quarantine
from tests.unit.data.scene_records import scene

RECORDS = [scene(number) for number in range(40)]


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(tmp_path / "quarantine.jsonl")


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("chunk", [16, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_array_is_read_the_same_in_chunks_of_any_size(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(sources, "_CHUNK", chunk)
    assert list(load_records(write(tmp_path, "a.json", json.dumps(RECORDS, indent=indent)))) == RECORDS


def test_json_lines_and_parquet(tmp_path):
    lines = write(tmp_path, "a.jsonl", "\n\n".join(map(json.dumps, RECORDS)))
    assert list(load_records(lines)) == RECORDS
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    assert list(load_records(tmp_path / "a.parquet")) == RECORDS


def test_records_without_an_id_get_the_file_and_number(tmp_path):
    file = write(tmp_path, "a.json", '[{}, {"id": null}, {"id": "x"}, {"id": 7}]')
    assert [record["id"] for record in load_records(file)] == ["a.json:1", "a.json:2", "x", 7]


def test_a_line_that_does_not_parse_is_set_aside_with_its_place(tmp_path, quarantine):
    file = write(tmp_path, "a.jsonl", '{"id": "1"}\n{"id": \n[3]\n{"id": "4"}\n')
    assert [record["id"] for record in load_records(file, quarantine)] == ["1", "4"]
    assert quarantine.ids == {"a.jsonl:2", "a.jsonl:3"}
    with pytest.raises(ValueError, match=r"a\.jsonl:2: does not parse as JSON"):
        list(load_records(file))


@pytest.mark.parametrize("chunk", [16, 1 << 20])
def test_a_broken_array_names_the_line(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(sources, "_CHUNK", chunk)
    file = write(tmp_path, "a.json", '[{"id": "1"},\n{"id": "2"},\n{"id" 3}]')
    with pytest.raises(ValueError, match=r"a\.json:3: .* after record 2"):
        list(load_records(file))
    with pytest.raises(ValueError, match="breaks after record 1"):
        list(load_records(write(tmp_path, "b.json", '[{"id": "1"}')))


@pytest.mark.parametrize(
    ("name", "said"), [("absent.json", "no such data file"), ("a.jsnl", "'.jsonl'"), ("a.json", "one array")]
)
def test_unusable_files(tmp_path, name, said):
    write(tmp_path, "a.jsnl", "")
    write(tmp_path, "a.json", '{"id": 1}')
    with pytest.raises(ValueError, match=said):
        list(load_records(tmp_path / name))


def test_record_table_is_the_list_of_its_records():
    table = RecordTable(iter(RECORDS))
    assert list(table) == RECORDS
    assert table[-1] == RECORDS[-1]
    assert table[3:5] == RECORDS[3:5]
    with pytest.raises(IndexError):
        table[len(RECORDS)]


def test_image_root_defaults_to_the_folder_of_the_file():
    assert str(DataFile("x/a.json").root) == "x"
    assert str(DataFile("x/a.json", "pictures").root) == "pictures"


def test_text_in_another_encoding(tmp_path, quarantine):
    line = json.dumps(RECORDS[0]).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b'\n{"id": "caf\xe9"}\n')  # a byte-order mark; Latin-1
    assert list(load_records(tmp_path / "a.jsonl", quarantine)) == RECORDS[:1]
    assert quarantine.ids == {"a.jsonl:2"}
    (tmp_path / "a.json").write_bytes(b'[{"id": "caf\xe9"}]')
    with pytest.raises(ValueError, match=r"a\.json: is not UTF-8 text"):
        list(load_records(tmp_path / "a.json"))


def test_parquet_that_is_broken_or_holds_bytes_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ValueError, match=r"a\.parquet: cannot be read as parquet"):
        list(load_records(tmp_path / "a.parquet"))
    table = pyarrow.Table.from_pylist([{"id": "1", "image": b"x"}])
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: column 'image' holds bytes"):
        list(load_records(tmp_path / "b.parquet"))

import json
import subprocess
import sys
from collections import Counter

import pytest

from data_gen.mix import main
from data_gen.mix.config import read_config
from data_gen.mix.run import mix
from data_gen.writers.base import stored_samples
from data_gen.writers.parquet import ParquetWriter
from llava_som.data.record_images import open_record_image
from llava_som.data.schema import Sample
from llava_som.data.sources import load_records
from tests.unit.data.scene_records import scene, text_only, write_data
from tests.unit.data_gen.finished_runs import finished_run


def run(out, files, **options):
    """The summary and the records of a mix."""
    listed = [file if isinstance(file, dict) else str(file) for file in files]
    summary = mix(read_config({"files": listed, "out": str(out), **options}))
    return summary, list(load_records(out))


def named(records):
    return [record["id"] for record in records]


@pytest.fixture
def two_files(tmp_path):
    first = write_data(tmp_path / "a" / "set", [scene(k) for k in range(10)])
    second = write_data(tmp_path / "b", [{**scene(k), "extra": k} for k in range(4)] + [text_only(9)])
    return first, second


def test_images_are_found_from_one_root_whatever_the_suffix(two_files, tmp_path):
    results = {}
    for suffix in ("json", "jsonl", "parquet"):
        summary, records = run(tmp_path / f"mix.{suffix}", two_files)
        assert summary["records"] == 15 and summary["image_root"] == str(tmp_path)
        assert summary["renamed_ids"] == 4 and summary["files"][1]["text_only"] == 1
        samples = [Sample.from_record(record) for record in records]
        assert all(open_record_image(image, tmp_path) for sample in samples for image in sample.images)
        results[suffix] = samples
    assert results["json"] == results["jsonl"] == results["parquet"]
    assert {image.split("/")[0] for sample in results["json"] for image in sample.images} == {"a", "b"}


def test_the_seed_decides_order_and_parts_and_nothing_else_does(two_files, tmp_path):
    files = [{"path": str(two_files[0]), "weight": 0.5}, {"path": str(two_files[1]), "weight": 2.4}]
    for name, seed in (("x", 0), ("y", 0), ("z", 1)):
        summary, records = run(tmp_path / f"{name}.json", files, seed=seed)
        assert [file["mixed"] for file in summary["files"]] == [5, 12]
        assert len(set(named(records))) == 17
        copies = Counter(record["extra"] for record in records if "extra" in record)
        assert all(2 <= copies[k] <= 3 for k in range(4))
    x, y, z = ((tmp_path / f"{name}.json").read_bytes() for name in "xyz")
    assert x == y != z
    kept = {record["id"] for record in load_records(tmp_path / "x.json") if "extra" not in record}
    _, grown = run(tmp_path / "grown.json", [*files, write_data(tmp_path / "c", [text_only(k) for k in range(30, 40)])])
    assert kept <= set(named(grown))  # another file does not change which half of this one is taken


def test_file_after_file_and_only_the_first(two_files, tmp_path):
    files = [{"path": str(two_files[0]), "limit": 3}, two_files[1]]
    _, records = run(tmp_path / "mix.json", files, shuffle=False)
    assert named(records) == [
        *("scene-0", "scene-1", "scene-2", "scene-0#2", "scene-1#2", "scene-2#2", "scene-3", "text-9"),
    ]


def test_missing_images_are_left_out_and_kept_whole(two_files, tmp_path, capsys):
    (two_files[0].parent / "3.png").unlink()
    (two_files[0].parent / "5.png").unlink()
    out = tmp_path / "mix.json"
    words = [f"files=[{two_files[0]},{two_files[1]}]", f"out={out}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "MISSING IMAGES: 2 of 10 records" in said and f"{two_files[0].parent} lacks 3.png, 5.png" in said
    kept = list(load_records(tmp_path / "mix.missing.jsonl"))
    assert [{key: record[key] for key in ("id", "image", "conversations")} for record in kept] == [scene(3), scene(5)]
    assert len(list(load_records(out))) == 13

    before = out.read_bytes()
    words.append("overwrite=true")
    assert main([*words, "missing=error", "seed=5"]) == 2
    assert "Nothing was written" in capsys.readouterr().err and out.read_bytes() == before
    assert main([*words, "missing=drop"]) == 0 and not (tmp_path / "mix.missing.jsonl").exists()
    assert main([*words, "missing=keep"]) == 0 and len(list(load_records(out))) == 15
    write_data(two_files[0].parent, [scene(3), scene(5)])  # the images come back: the lines are records to mix
    (tmp_path / "late.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept))
    late = {"path": str(tmp_path / "late.jsonl"), "image_root": str(two_files[0].parent)}
    assert run(tmp_path / "both.json", [late])[0]["records"] == 2


def test_records_that_break_a_rule_are_set_aside_with_the_reason(tmp_path):
    file = tmp_path / "a.jsonl"
    records = [scene(0), {**scene(1), "image": None}, {**scene(2), "image": "../../secret.png"}, text_only(4)]
    write_data(tmp_path, [scene(0)])
    file.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"id": \n[3]\n')
    summary, kept = run(tmp_path / "mix.jsonl", [file])
    assert sorted(named(kept)) == ["scene-0", "text-4"] and summary["files"][0]["read"] == 6
    rejects = [json.loads(line) for line in (tmp_path / "mix.rejects.jsonl").read_text().splitlines()]
    assert [line["id"] for line in rejects] == ["scene-1", "scene-2", "a.jsonl:5", "a.jsonl:6"]
    for line, said in zip(rejects, ("names 0 image", "outside", "does not parse", "must be an object"), strict=True):
        assert said in line["reason"] and line["file"] == str(file)
    assert rejects[0]["record"]["conversations"] == records[1]["conversations"]


def test_chat_messages_become_conversations(tmp_path):
    write_data(tmp_path, [scene(0)])
    content = [{"type": "image"}, {"type": "text", "text": "List the tagged items one by one."}]
    answer = {"role": "assistant", "content": scene(0)["conversations"][1]["value"]}
    chat = {"id": "scene-0", "images": ["0.png"], "messages": [{"role": "user", "content": content}, answer]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(chat))
    assert run(tmp_path / "mix.json", [tmp_path / "chat.jsonl"])[1] == [scene(0)]


def test_images_inside_our_parquet_are_named_from_the_common_root(tmp_path, capsys):
    _, entries = finished_run(tmp_path / "drawn", count=3)
    ParquetWriter().write(tmp_path / "drawn", stored_samples(tmp_path / "drawn", entries, "scenes"))
    other = write_data(tmp_path / "photos", [scene(0)])
    summary, records = run(tmp_path / "mix.json", [tmp_path / "drawn" / "parquet", other])
    assert summary["records"] == 7
    stored = [record["image"] for record in records if "parquet#" in record["image"]]
    assert len(stored) == 6 and all(open_record_image(image, tmp_path).size for image in stored)
    assert summary["files"][0]["inside_parquet"] == 6
    assert main([f"files=[{tmp_path / 'drawn' / 'parquet'}]", f"out={tmp_path / 'stored.json'}"]) == 0
    assert "6 records read with images inside parquet" in capsys.readouterr().out


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(two_files, tmp_path, capsys):
    words = [f"files=[{two_files[0]}]", f"out={tmp_path / 'mix.json'}"]
    assert main([*words, "missing=drop"]) == 0
    before = (tmp_path / "mix.json").read_bytes()
    capsys.readouterr()
    assert main([*words, "seed=1"]) == 2
    assert "mix.json: exists" in capsys.readouterr().err and (tmp_path / "mix.json").read_bytes() == before
    assert main([f"files=[{{path: {two_files[0]}, limit: 1}}]", words[1], "overwrite=true"]) == 0
    said = capsys.readouterr().out
    assert "\n1 record: " in said and "inside parquet" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"files": []}, "nothing to mix"),
        ({"files": ["a.json", "./a.json"]}, "listed twice"),
        ({"files": [{"path": "a.json", "wieght": 2}]}, "Did you mean 'weight'"),
        ({"files": [{"path": "a.json", "weight": 0}]}, "weight=0"),
        ({"files": [{"path": "a.json", "limit": 0}]}, "limit=0"),
        ({"files": ["gone.json"]}, "gone.json: no such data file"),
        ({"files": ["a.json"], "out": "mix.txt"}, "Allowed: .json, .jsonl, .parquet"),
        ({"files": ["a.json"], "out": "a.json"}, "one of the files to read"),
        ({"files": ["a.json"], "missing": "ignore"}, "missing='ignore'"),
        ({"files": ["a.json"], "image_root": "other"}, "outside image_root"),
        ({"files": ["a.json", "b.json"], "duplicate_ids": "error"}, "b.json: the id 'scene-0' occurs again"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    file = write_data(tmp_path, [scene(0)]).rename(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(file.read_bytes())
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=said):
        mix(read_config({"out": "mix.json", **options}))
    assert sorted(tmp_path.iterdir()) == before


def test_help_imports_no_framework_and_errors_are_one_line(tmp_path, capsys):
    code = (
        "import sys; from data_gen.mix import main; main(['--help']);"
        "print(sorted({'torch', 'transformers', 'cv2', 'pyarrow', 'datasets'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n") and "examples:" in result.stdout and "  weight  (float" in result.stdout
    assert main(["out=x.json"]) == 2
    assert capsys.readouterr().err.startswith("error: The option 'files' is required")
    (tmp_path / "empty.json").write_text("[]")
    assert main([f"files=[{tmp_path / 'empty.json'}]", f"out={tmp_path / 'mix.json'}"]) == 1

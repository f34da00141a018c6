import errno
import io
import json
import tarfile
from dataclasses import replace

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

import llava_som
from data_gen.card import front_matter, shareable
from data_gen.config import plan_run
from data_gen.pipeline import generate
from data_gen.writers import WRITERS, files
from data_gen.writers.base import stored_samples
from data_gen.writers.lists import write_lists
from data_gen.writers.parquet import ParquetWriter
from data_gen.writers.webdataset import WebDatasetWriter
from llava_som.config_file import read_options
from llava_som.data.record_images import image_file, open_record_image
from llava_som.data.schema import Sample
from llava_som.data.sources import DataFile, load_records
from llava_som.images import ImageError
from llava_som.marks.record import MarkRecord
from tests.unit.data_gen.finished_runs import finished_run
from tests.unit.data_gen.inputs import write_voc

FORMATS = ["parquet", "webdataset"]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples_of(entries):
    return [sample for entry in entries for sample in entry["samples"]]


def pixels(image):
    return np.asarray(image.convert("RGB"))


def test_the_lists_hold_every_sample_every_reject_and_every_marked_image(tmp_path):
    run, entries = finished_run(tmp_path)
    summary = write_lists(run, entries)
    assert json.loads((tmp_path / "data.json").read_text()) == samples_of(entries)
    assert [row["id"] for row in lines(tmp_path / "eval.jsonl")] == [entry["id"] for entry in entries[:-1]]
    assert set(lines(tmp_path / "eval.jsonl")[0]) == {"id", "image", "clean_image", "sidecar"}
    qa, gone = lines(tmp_path / "rejects.jsonl")
    assert qa["answer"] == "Yes | no." and (tmp_path / qa["sidecar"]).exists() and qa["image"].endswith(".png")
    assert gone == {
        "id": "gone",
        "file": "gone.jpg",
        "recipe": None,
        "kind": "unusable image",
        "reason": "no such file",
        "answer": "",
    }
    assert json.loads((tmp_path / "summary.json").read_text()) == {**summary, "run": shareable(run.identity())}
    assert list(load_records(tmp_path / "data.json")) == samples_of(entries)


def test_the_same_entries_give_the_same_bytes_and_stale_shards_go(tmp_path):
    run, entries = finished_run(tmp_path / "a" / "out", count=6, formats=FORMATS)
    write_lists(run, entries)
    other, same = finished_run(tmp_path / "b" / "out", count=6, formats=FORMATS)
    write_lists(other, same[:2])
    write_lists(other, same)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not list(tmp_path.rglob(".*"))


def test_a_format_that_is_not_asked_for_again_is_said_to_be_old(tmp_path, caplog):
    write_lists(*finished_run(tmp_path, formats=FORMATS))
    write_lists(*finished_run(tmp_path, formats=["parquet"]))
    assert [message for message in caplog.messages if "earlier run" in message] == [
        f"{tmp_path / 'shards'} is of an earlier run; formats=[webdataset] would renew it."
    ]


def test_datasets_opens_our_parquet_with_images_decoded(tmp_path):
    run, entries = finished_run(tmp_path, formats=["parquet"])
    write_lists(run, entries)
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "parquet" / "*.parquet"), split="train")
    expected = samples_of(entries)
    assert rows["id"] == [sample["id"] for sample in expected] and set(rows["source"]) == {"scenes"}
    for row, sample in zip(rows, expected, strict=True):
        assert np.array_equal(pixels(row["image"]), pixels(Image.open(tmp_path / sample["image"])))
        assert row["conversations"] == sample["conversations"]
        record = MarkRecord.model_validate_json(row["sidecar"])
        assert [mark["name"] for mark in row["marks"]] == [mark.category for mark in record.marks]
        assert [tuple(mark["bbox_xywh"]) for mark in row["marks"]] == [mark.bbox_xywh for mark in record.marks]


def test_training_reads_our_parquet_a_file_or_the_folder(tmp_path):
    _, entries = finished_run(tmp_path)
    stored = list(stored_samples(tmp_path, entries, "scenes"))
    ParquetWriter(rows_per_group=3).write(tmp_path, stored)
    (file,) = (tmp_path / "parquet").iterdir()
    assert pyarrow.parquet.ParquetFile(file).metadata.num_row_groups == 4
    for path in (file, file.parent):
        records = list(load_records(path))
        assert [record["id"] for record in records] == [sample.id for sample in stored]
        assert "sidecar" not in records[0] and records[7]["image"] == "train-00000-of-00001.parquet#7"
        root = DataFile(str(path)).root
        for record, sample in zip(records, stored, strict=True):
            (image,) = Sample.from_record(record).images
            assert image_file(image, root) == file.resolve()
            picture = Image.open(io.BytesIO(sample.image))
            assert np.array_equal(pixels(open_record_image(image, root)), pixels(picture))


def test_stored_images_that_cannot_be_opened_are_named(tmp_path):
    good = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(good, "PNG")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "b.png")
    odd = io.BytesIO()
    Image.new("RGB", (8, 8)).save(odd, "PNG", exif=b"Exif\0\0MM\0*")  # Pillow lets a struct.error through
    stored = [{"bytes": good.getvalue()[:40], "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    stored.append({"bytes": odd.getvalue(), "path": "c.png"})
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    table = pyarrow.Table.from_pylist(
        [{"id": str(k), "image": i, "conversations": turns} for k, i in enumerate(stored)]
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    cut, path_only, text_only, odd_exif = load_records(tmp_path / "x.parquet")
    for record, row in ((cut, 0), (odd_exif, 3)):
        with pytest.raises(ImageError, match=rf"x\.parquet, row {row}: holds no usable image"):
            open_record_image(record["image"], tmp_path)
    assert open_record_image(path_only["image"], tmp_path).getpixel((0, 0)) == (0, 0, 255)
    assert "image" not in text_only and Sample.from_record(text_only).images == []
    for name, said in (("x.parquet#9", "row 9"), ("y.parquet#0", "no such file"), ("../x.parquet#0", "outside")):
        with pytest.raises(ImageError, match=said):
            open_record_image(name, tmp_path)


def test_shards_stay_within_their_limits_and_keep_the_order(tmp_path):
    _, entries = finished_run(tmp_path, count=4)
    stored = list(stored_samples(tmp_path, entries, "scenes"))
    WebDatasetWriter(shard_samples=3).write(tmp_path, stored)
    names = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert names == ["000000.tar", "000001.tar", "000002.tar"]
    found = []
    for name in names:
        with tarfile.open(tmp_path / "shards" / name) as tar:
            assert {(info.mtime, info.uid, info.gid, info.uname) for info in tar} == {(0, 0, 0, "")}
            texts = [info for info in tar if info.name.endswith(".json") and ".marks." not in info.name]
            found += [json.loads(tar.extractfile(info).read())["id"] for info in texts]
    assert found == [sample.id for sample in stored]
    large = [replace_image(sample, 700_000) for sample in stored]
    ParquetWriter(shard_mb=1, rows_per_group=2).write(tmp_path, large)
    assert len(list((tmp_path / "parquet").glob("train-*-of-00008.parquet"))) == 8


def replace_image(sample, size):
    larger = replace(sample)
    vars(larger)["image"] = bytes(size)
    return larger


def test_datasets_streams_our_shards(tmp_path):
    run, entries = finished_run(tmp_path, formats=["webdataset"])
    write_lists(run, entries)
    rows = datasets.load_dataset(
        "webdataset", data_files=str(tmp_path / "shards" / "*.tar"), split="train", streaming=True
    )
    for row, sample in zip(rows, samples_of(entries), strict=True):
        assert row["json"]["conversations"] == sample["conversations"]
        assert np.array_equal(pixels(row["png"]), pixels(Image.open(tmp_path / sample["image"])))
        assert [mark["id"] for mark in row["marks.json"]] == list(range(1, len(row["marks.json"]) + 1))


@pytest.mark.parametrize("name", WRITERS.names())
def test_a_run_without_samples_gives_an_empty_folder_or_file(tmp_path, name):
    writer = WRITERS.get(name)()
    writer.write(tmp_path, [])
    written = tmp_path / writer.path
    assert written.read_bytes() == b"" if written.is_file() else list(written.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path, monkeypatch):
    run, entries = finished_run(tmp_path, formats=FORMATS)
    write_lists(run, entries)
    before = tree(tmp_path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("parquet.row_of", "webdataset.members", "lists.summarize", "files.line_of"):
        with monkeypatch.context() as patch:
            patch.setattr(f"data_gen.writers.{place}", full)
            with pytest.raises(OSError, match="No space left"):
                write_lists(run, entries)
        assert tree(tmp_path) == before
    with pytest.raises(ImageError, match="outside"):
        files.save_image(Image.new("RGB", (4, 4)), tmp_path / "images", "../x.png")


def test_the_card_says_how_to_load_and_to_repeat(tmp_path):
    licences = {"license": "CC BY 4.0", "image_license": "drawn by\nus | free"}
    run, entries = finished_run(tmp_path / "set", formats=FORMATS, **licences)
    write_lists(run, entries)
    text = (tmp_path / "set" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    head = yaml.safe_load(head)
    assert (head["license"], head["license_name"]) == ("other", "CC BY 4.0")
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "parquet/*.parquet"}]
    assert head["size_categories"] == ["n<1K"]
    assert "Tar shards of &lt;number>.jpg" in body  # a "<number>" would be taken for HTML and not be shown
    assert "| images | drawn by us \\| free |" in body and "| conversations | 10 |" in body
    assert f"llava_som {llava_som.__version__}" in body and str(tmp_path) not in text
    again = yaml.safe_load(body.rsplit("```yaml\n", 1)[1].split("```")[0])
    assert plan_run({**again, "out": str(tmp_path / "again")}).identity() == run.identity()
    code = body.split("```python\n")[1].split("```")[0].replace('"set/', f'"{tmp_path}/set/')
    loaded = {}
    exec(code, loaded)  # noqa: S102
    assert len(loaded["samples"]) == len(loaded["parquet"]) == len(list(loaded["shards"])) == 10


def test_nothing_that_is_published_names_a_folder_of_this_machine(tmp_path):
    options = {"source": "coco", **write_voc(tmp_path), "recipe": ["listing", "qa", "refer"], "formats": FORMATS}
    generate({**options, "out": tmp_path / "set", "twins": True})
    names = ("README.md", "summary.json", "*/*.parquet", "*/*.tar")
    published = [file for name in names for file in (tmp_path / "set").glob(name)]
    assert len(published) == 4 and not any(str(tmp_path).encode() in file.read_bytes() for file in published)
    row = next(iter(pyarrow.parquet.read_table(tmp_path / "set" / "parquet").to_pylist()))
    assert MarkRecord.model_validate_json(row["sidecar"]).origin["images"] == "photos"
    card = (tmp_path / "set" / "README.md").read_text()
    assert "images: photos" in card and "speaks of marks that its image does not show" in card


@pytest.mark.parametrize("given", [{"count": 4}, {"count": 9, "limit": 3, "recipe": ["listing", "qa"], "twins": True}])
def test_the_recipe_on_the_card_makes_the_same_bytes(tmp_path, given):
    first, again = tmp_path / "first", tmp_path / "again"
    summary = generate({"source": "scenes", "marks": {"short_side": 96}, **given, "out": str(first)})
    body = (first / "README.md").read_text()
    (tmp_path / "recipe.yaml").write_text(body.rsplit("```yaml\n", 1)[1].split("```")[0])
    generate(read_options([str(tmp_path / "recipe.yaml"), f"out={again}"]))
    assert (again / "data.json").read_bytes() == (first / "data.json").read_bytes()
    assert summary["untagged_twins"] == (summary["records"] // 2 if "twins" in given else 0)
    assert ("of them untagged twins" in body) == ("| `clean/` |" in body) == ("twins" in given)


def test_a_card_of_lists_alone_loads_without_more_packages(tmp_path):
    write_lists(*finished_run(tmp_path))
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert code.startswith("import json\n") and "datasets" not in code


def test_options_whose_defaults_differ_between_recipes_are_repeated_only_where_they_were_given(tmp_path):
    recipes = {"recipe": ["listing", "qa", "refer"]}
    for given in ({}, {"turns": [2, 3], "max_words": 16}):
        run, entries = finished_run(tmp_path / str(len(given)), **recipes, **given)
        write_lists(run, entries)
        body = (tmp_path / str(len(given)) / "README.md").read_text()
        again = yaml.safe_load(body.rsplit("```yaml\n", 1)[1].split("```")[0])
        assert plan_run({**again, "out": str(tmp_path / "again")}).identity() == run.identity()
        assert given.items() <= again.items() and ("turns" in again) == bool(given)


def test_a_card_without_a_licence_or_with_a_secret():
    assert front_matter("x", "not stated", 5000, [], [])["license"] == "unknown"
    card = front_matter("x", "apache-2.0", 5000, [], ["ocr"])
    assert card["tags"] == ["ocr"]
    assert card["license"] == "apache-2.0" and card["size_categories"] == ["1K<n<10K"]
    assert card["configs"][0]["data_files"][0]["path"] == "data.json"
    told = {"base_url": "http://me:pw@host/v1", "extra": {"api_key": "sk-1"}, "api_key_env": "KEY", "max_tokens": 9}
    assert shareable(told) == {
        "base_url": "http://host/v1",
        "extra": {"api_key": "(left out)"},
        "api_key_env": "KEY",
        "max_tokens": 9,
    }


@pytest.mark.parametrize(
    ("name", "limit"), [("parquet", "shard_mb"), ("parquet", "rows_per_group"), ("webdataset", "shard_samples")]
)
def test_limits_below_one_are_refused(name, limit):
    with pytest.raises(ValueError, match=f"{limit}=0: must be at least 1"):
        WRITERS.get(name)(**{limit: 0})

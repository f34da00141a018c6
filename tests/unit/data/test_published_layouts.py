import json

import pytest

from data_gen.mix.config import read_config
from data_gen.mix.run import mix
from llava_som.data.record_images import open_record_image
from llava_som.data.schema import Sample
from llava_som.data.sources import RecordTable, load_records
from tests.unit.data.published_layouts import general, questions, write_published

SIZES = {"som_listing_coco10k": 14, "som_qa_coco20k": 28, "som_llava_mix695k": 84}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return folder, write_published(folder)


@pytest.mark.parametrize("name", SIZES)
def test_every_record_is_a_sample_with_images_that_open(published, name):
    folder, files = published
    samples = [Sample.from_record(record) for record in RecordTable(load_records(files[name]))]
    assert len(samples) == SIZES[name]
    for sample in samples:
        assert sample.messages[0].num_images == len(sample.images) <= 1
        for image in sample.images:
            assert open_record_image(image, folder / "images").size == (8, 8)
    text_only = sum(not sample.images for sample in samples)
    assert text_only == (6 if name == "som_llava_mix695k" else 0)


@pytest.mark.parametrize("number", [0, 1])
def test_the_image_comes_first_on_either_side_of_the_line_break(number):
    record = general(number)
    assert record["conversations"][0]["value"].startswith("<image>") is (number == 0)
    first = Sample.from_record(record).messages[0]
    assert [part.type for part in first.content] == ["image", "text"] and first.text == "What is shown?"


def test_an_image_inside_or_among_others_stays_where_it_is():
    def content(text, images):
        record = {**questions(0), "image": images}
        record["conversations"] = [{**record["conversations"][0], "value": text}, *record["conversations"][1:]]
        return [part.type for part in Sample.from_record(record).messages[0].content]

    assert content("Is <image> a shop?", "a.jpg") == ["text", "image", "text"]
    assert content("Compare\n<image>\nwith\n<image>", ["a.jpg", "b.jpg"]) == ["text", "image", "text", "image"]


def test_the_three_files_mix_into_one(published, tmp_path):
    folder, files = published
    images = str(folder / "images")
    listed = [{"path": str(path), "image_root": images} for path in files.values()]
    summary = mix(read_config({"files": listed, "out": str(tmp_path / "mix.json")}))
    records = json.loads((tmp_path / "mix.json").read_text())
    assert summary["records"] == len(records) == sum(SIZES.values()) and summary["image_root"] == images
    assert [(file["missing"], file["rejected"]) for file in summary["files"]] == [(0, 0)] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mix.json", "mix.summary.json"]
    ids = [record["id"] for record in records]
    assert all(isinstance(name, str) for name in ids) and len(set(ids)) == len(ids)
    assert {"000000000003", "000000000003#2", "000000000003#3", "000000000003#4", "3"} <= set(ids)
    original = {json.dumps(record["conversations"]) for path in files.values() for record in load_records(path)}
    assert {json.dumps(record["conversations"]) for record in records} == original
    for record in records:
        assert all(open_record_image(image, images) for image in Sample.from_record(record).images)

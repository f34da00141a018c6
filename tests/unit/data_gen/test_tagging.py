import json

import pytest
from PIL import Image

from data_gen.lock import sole_writer
from data_gen.pipeline import generate
from data_gen.tagging import tag
from llava_som.marks import MarkRecord
from tests.unit.data_gen.inputs import tree, write_boxes, write_photos, write_voc


def test_one_image_is_written_with_its_sidecar_beside_it(tmp_path):
    photo = write_photos(tmp_path / "photos") / "coffee.jpg"
    summary = tag(photo, tmp_path / "out", "classical", seed=3)
    record = MarkRecord.load(tmp_path / "out" / "coffee.marks.json")
    assert Image.open(tmp_path / "out" / "coffee.jpg").size == record.size
    assert summary["tagged"] == 1 and summary["marks"] == len(record.marks) > 2 and record.seed == 3
    tag(photo, tmp_path / "named.png", "classical")
    assert Image.open(tmp_path / "named.png").format == "PNG" and (tmp_path / "named.marks.json").exists()


def test_annotations_give_names(tmp_path):
    paths = write_voc(tmp_path)
    tag(paths["images"] / "voc.jpg", tmp_path / "out", "coco", annotations=paths["annotations"])
    record = MarkRecord.load(tmp_path / "out" / "voc.marks.json")
    assert {mark.category for mark in record.marks} == {"chair", "person", "bottle", "diningtable"}


def test_a_folder_sets_bad_files_aside_and_is_resumed(tmp_path):
    photos = write_photos(tmp_path / "photos")
    (photos / "sub").mkdir()
    Image.open(photos / "coffee.jpg").save(photos / "sub" / "coffee.png")
    (photos / "broken.jpg").write_bytes(b"broken")
    out = tmp_path / "out"
    first = tag(photos, out, "classical")
    assert (first["tagged"], first["kept"], first["rejected"]) == (4, 0, 1)
    assert first["rejected_by_reason"] == {"unusable image": 1}
    assert (out / "sub" / "coffee.png").exists() and (out / "sub" / "coffee.marks.json").exists()
    assert json.loads((out / "rejects.jsonl").read_text())["file"] == "broken.jpg"

    assert tag(photos, out, "classical")["kept"] == 4
    assert tag(photos, out, "classical", force=True)["tagged"] == 4
    assert tag(photos, out, "classical", max_regions=5)["kept"] == 0  # other options find other regions
    other_seed = tag(photos, out, "classical", seed=1)
    assert (other_seed["tagged"], other_seed["kept"]) == (4, 0)

    (out / "coffee.marks.json").write_text('{"version"')  # damaged: this one is marked again
    (photos / "broken.jpg").unlink()
    assert tag(photos, out, "classical", seed=1)["tagged"] == 1
    assert not (out / "rejects.jsonl").exists()


def test_marks_of_another_source_are_not_kept(tmp_path):
    paths = write_boxes(tmp_path)
    tag(paths["images"], tmp_path / "out", "classical")
    assert tag(paths["images"], tmp_path / "out", "boxes", annotations=paths["annotations"])["tagged"] == 1
    record = MarkRecord.load(tmp_path / "out" / "astronaut.marks.json")
    assert {mark.source for mark in record.marks} == {"boxes"}


def test_processes_change_nothing_and_presets_can_be_changed(tmp_path):
    photos = write_photos(tmp_path / "photos")
    for workers in (1, 2):
        tag(photos, tmp_path / f"out{workers}", "classical", workers=workers, marks={"draw": ["mark", "mask"]})
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")
    record = MarkRecord.load(tmp_path / "out1" / "coffee.marks.json")
    assert record.preset.name == "clear (changed)" and record.origin["name"] == "classical"


def test_a_marked_image_is_never_marked_over_itself(tmp_path):
    photo = write_photos(tmp_path / "photos") / "coffee.jpg"
    (tmp_path / "out.v2").mkdir()  # a folder, though its name has a suffix
    tag(photo, tmp_path / "out.v2", "classical")
    with pytest.raises(ValueError, match="would be written over by its own marked copy"):
        tag(tmp_path / "out.v2" / "coffee.jpg", tmp_path / "out.v2", "classical")


def test_tagging_may_draw_without_tags(tmp_path):
    photos = write_photos(tmp_path / "photos")
    assert tag(photos / "coffee.jpg", tmp_path / "out", marks={"draw": "mask"})["marks"] > 2
    assert MarkRecord.load(tmp_path / "out" / "coffee.marks.json").preset.draw == ("mask",)


def test_an_image_without_regions_is_still_written(tmp_path):
    paths = write_boxes(tmp_path)
    paths["annotations"].write_text('{"coffee.jpg": []}')
    assert tag(paths["images"], tmp_path / "out", "boxes", annotations=paths["annotations"])["marks"] == 0
    assert MarkRecord.load(tmp_path / "out" / "coffee.marks.json").marks == []


def test_a_photo_that_was_replaced_is_marked_again(tmp_path):
    photos = write_photos(tmp_path / "photos")
    tag(photos, tmp_path / "out")
    (photos / "coffee.jpg").touch()
    assert tag(photos, tmp_path / "out")["tagged"] == 1


def test_a_kill_never_leaves_a_new_sidecar_beside_an_old_picture(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos")
    tag(photos, tmp_path / "out")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("data_gen.writers.files.write_image", killed)
        tag(photos, tmp_path / "out", preset="paper")
    assert tag(photos, tmp_path / "out", preset="paper")["tagged"] == 3


def test_a_training_set_is_not_tagged_over_and_two_runs_are_refused(tmp_path):
    photos = write_photos(tmp_path / "photos")
    with sole_writer(tmp_path / "out"), pytest.raises(ValueError, match="being written by another run"):
        tag(photos, tmp_path / "out")
    (tmp_path / "out" / "records.jsonl").touch()
    with pytest.raises(ValueError, match="holds a training set"):
        tag(photos, tmp_path / "out")


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"holds no image file \(.bmp"):
        tag(tmp_path / "photos", tmp_path / "out", "classical")


def test_output_never_becomes_input(tmp_path):
    photos = write_photos(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"photos/tagged lies inside .*photos, which is input"):
        tag(photos, photos / "tagged", "classical")
    with pytest.raises(ValueError, match=r"photos/out lies inside .*photos, which is input"):
        generate({"source": "classical", "recipe": "qa", "images": photos, "out": photos / "out"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": "broken.jpg"}, "broken.jpg: is not an image"),
        ({"inputs": "gone.jpg"}, "gone.jpg: no such file or folder"),
        ({"source": "clasical"}, "Did you mean 'classical'"),
        ({"source": "scenes"}, "source=scenes makes its own images.*synth"),
        ({"source": "coco"}, "'annotations' is required"),
        ({"preset": "papper"}, "Did you mean 'paper'"),
        ({"max_region": 4}, "Did you mean 'max_regions'"),
        ({"annotations": "x.json"}, "Unknown option of source=classical 'annotations'"),
        ({"out": "photos"}, "coffee.jpg: is there already, and is not a marked image"),
        ({"workers": 0}, "workers=0: at least one process"),
        ({"workers": "two"}, "workers='two'"),
        ({"marks": 5}, "marks=5"),
        ({"inputs": "broken.jpg", "marks": {"font": "/nope.ttf"}}, "font '/nope.ttf' cannot be read"),  # first of all
        ({"level": 2}, r"Unknown option of source=classical 'level' \(it belongs to source=sam\)"),
        ({"out": "x.gif"}, r"x.gif: a marked image is written as .jpg or .png"),
    ],
)
def test_a_single_image_raises_what_is_wrong(tmp_path, change, message):
    photos = write_photos(tmp_path / "photos")
    (photos / "broken.jpg").write_bytes(b"broken")
    options = {"inputs": "coffee.jpg", "out": "out", "source": "classical", **change}
    options = {**options, "inputs": photos / options["inputs"], "out": tmp_path / options["out"]}
    with pytest.raises(ValueError, match=message):
        tag(**options)

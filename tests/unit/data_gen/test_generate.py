"""The pipeline as people run it: outputs, faults, resuming, processes."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from data_gen.config import plan_run
from data_gen.lock import sole_writer
from data_gen.pipeline import generate
from data_gen.sources.scenes import SceneSource
from data_gen.tagging import tag
from llava_som.marks import MarkRecord, parse_listing
from llava_som.marks.names import spelled_out
from tests.unit.data_gen.inputs import lines, tree, write_photos, write_voc

SMALL_MARKS = {"short_side": 96, "font_px": 15, "min_area": 20}
SCENES = {"source": "scenes", "count": 8, "preset": "paper", "marks": SMALL_MARKS, "page": 3}


def test_a_coco_photo_becomes_a_record_that_its_sidecar_proves(tmp_path):
    summary = generate(
        {"source": "coco", "preset": "paper", **write_voc(tmp_path), "out": tmp_path / "out", "untagged": True}
    )
    (sample,) = json.loads((tmp_path / "out" / "data.json").read_text())
    (evaluation,) = lines(tmp_path / "out" / "eval.jsonl")
    record = MarkRecord.load(tmp_path / "out" / evaluation["sidecar"])
    listed = parse_listing(sample["conversations"][1]["value"])
    assert (
        listed == {mark.id: spelled_out(mark.category) for mark in record.marks}
        and len(listed) == summary["marks"] == 19
    )
    assert sample["conversations"][0]["value"].startswith("<image>\n")
    assert sample["id"] == "voc" and sample["image"] == "images/voc.jpg" and record.image == "voc.jpg"
    tagged, clean = (Image.open(tmp_path / "out" / evaluation[key]) for key in ("image", "clean_image"))
    assert tagged.size == clean.size == record.size == (853, 640)
    assert np.abs(np.asarray(tagged, int) - np.asarray(record.redraw(clean), int)).mean() < 2
    page = (tmp_path / "out" / "index.html").read_text()
    assert "images/voc.jpg" in page and "diningtable" in page


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate({**SCENES, "seed": seed, "untagged": True, "out": tmp_path / out / "scenes"})
    a, b, c = (tree(tmp_path / out) for out in "abc")
    assert a == b
    assert a["scenes/data.json"] != c["scenes/data.json"]


def test_processes_change_nothing(tmp_path):
    for workers in (1, 2):
        generate({**SCENES, "workers": workers, "out": tmp_path / str(workers) / "out"})
    assert tree(tmp_path / "1" / "out") == tree(tmp_path / "2" / "out")


def test_a_run_is_extended_but_never_mixed_with_another(tmp_path):
    generate({**SCENES, "limit": 3, "out": tmp_path})
    before = (tmp_path / "images" / "scene-000000.png").stat().st_mtime_ns
    assert generate({**SCENES, "out": tmp_path})["records"] == 8
    assert (tmp_path / "images" / "scene-000000.png").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another seed: 0 there, 1 here"):
        generate({**SCENES, "seed": 1, "out": tmp_path})
    with pytest.raises(ValueError, match=r"another source.size: 96 there, 90 here"):
        generate({**SCENES, "size": 90, "out": tmp_path})
    damaged = (tmp_path / "records.jsonl").read_text().splitlines()
    damaged[2] = damaged[2][:20]
    (tmp_path / "records.jsonl").write_text("\n".join(damaged) + "\n")
    with pytest.raises(ValueError, match=r"records.jsonl: line 3 is damaged"):
        generate({**SCENES, "out": tmp_path})


def test_every_bad_input_is_rejected_with_its_reason_and_the_rest_goes_on(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos")
    (photos / "coffee.jpg").write_bytes((photos / "coffee.jpg").read_bytes()[:900])
    (photos / "text.jpg").write_text("not an image")
    Image.new("1", (400, 300)).save(photos / "bomb.png")
    box = [{"bbox": [10, 10, 120, 80], "name": "thing"}]
    boxes = dict.fromkeys(("astronaut.jpg", "coffee.jpg", "text.jpg", "bomb.png", "gone.jpg", "../boxes.json"), box)
    boxes |= {"chelsea.jpg": [{"bbox": [500, 10, 20, 20], "name": "cat"}]}
    for mode in ("CMYK", "P", "I;16"):
        boxes[name := f"mode-{mode[0]}.tif"] = box
        Image.new("RGB", (160, 120), "red").convert("I" if mode == "I;16" else mode).save(photos / name)
    Image.new("RGB", (160, 120)).save(photos / "empty.png")
    Image.new("RGB", (160, 120)).save(photos / "nameless.png")
    boxes |= {"empty.png": [], "nameless.png": [{"bbox": [10, 10, 120, 80]}]}
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: 160x120 is upright 120x160
    Image.new("RGB", (160, 120)).save(photos / "turned.jpg", exif=exif)
    frames = [Image.new("RGB", (160, 120), colour) for colour in ("red", "blue")]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    boxes |= {"turned.jpg": [{"bbox": [10, 130, 100, 25], "name": "low"}], "moving.gif": box}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)

    options = {"source": "boxes", "images": photos, "annotations": tmp_path / "boxes.json", "preset": "paper"}
    options["out"] = tmp_path / "out"
    summary = generate(options)
    good = {sample["id"] for sample in json.loads((tmp_path / "out" / "data.json").read_text())}
    assert good == {"astronaut", "mode-C", "mode-P", "mode-I", "turned", "moving"}
    reasons = {line["file"]: line["reason"] for line in lines(tmp_path / "out" / "rejects.jsonl")}
    expected = {
        "coffee.jpg": "corrupt or cut short",
        "text.jpg": "is not an image",
        "bomb.png": "million pixels",
        "gone.jpg": "no such file",
        "../boxes.json": "outside the image root",
        "chelsea.jpg": "outside its image of 160x120",
        "empty.png": "the source has none",
        "nameless.png": "no class name for mark 1",
    }
    assert reasons.keys() == expected.keys() and summary["rejected"] == len(expected)
    for file, part in expected.items():
        assert part in reasons[file]
    assert summary["rejected_by_reason"] == {
        "unusable image": 5,
        "annotation does not fit the image": 1,
        "no region to mark": 1,
        "the annotation does not know": 1,
    }

    monkeypatch.undo()  # allows the large image
    write_photos(photos)  # and the owner repairs a file: the next run takes both in
    assert generate(options)["records"] == 8
    assert "coffee.jpg" not in {line["file"] for line in lines(tmp_path / "out" / "rejects.jsonl")}


def test_several_recipes_and_twins_share_an_image(tmp_path):
    summary = generate({**SCENES, "count": 4, "recipe": ["listing", "qa"], "twins": True, "out": tmp_path})
    samples = json.loads((tmp_path / "data.json").read_text())
    assert len(samples) == summary["records"] == 16 and summary["images"] == 4
    first = {sample["id"]: sample for sample in samples[:4]}
    assert set(first) == {f"scene-000000:{recipe}{twin}" for recipe in ("listing", "qa") for twin in ("", ":untagged")}
    tagged, twin = first["scene-000000:qa"], first["scene-000000:qa:untagged"]
    assert twin["conversations"] == tagged["conversations"]
    assert (tagged["image"], twin["image"]) == ("images/scene-000000.png", "clean/scene-000000.png")
    assert (tmp_path / "clean" / "scene-000000.png").exists()


def test_what_nobody_foresaw_costs_one_image_and_is_logged(tmp_path, monkeypatch, caplog):
    regions = SceneSource.regions

    def stumble(self, ref, image):
        return [][1] if ref.id == "scene-000002" else regions(self, ref, image)

    monkeypatch.setattr(SceneSource, "regions", stumble)
    assert generate({**SCENES, "out": tmp_path, "dry_run": True})["unusable"] == 1
    assert generate({**SCENES, "out": tmp_path})["records"] == 7
    (rejected,) = lines(tmp_path / "rejects.jsonl")
    assert (rejected["id"], rejected["kind"]) == ("scene-000002", "unexpected error")
    assert "IndexError" in rejected["reason"] and "report it" in caplog.text and "Traceback" in caplog.text


def test_near_duplicates_are_left_out_before_anything_is_paid(tmp_path):
    photos = write_photos(tmp_path / "photos")
    Image.open(photos / "chelsea.jpg").save(photos / "zz-again.jpg", quality=60)
    boxes = {file.name: [{"bbox": [10, 10, 120, 80], "name": "thing"}] for file in sorted(photos.iterdir())}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = {"source": "boxes", "images": photos, "annotations": tmp_path / "boxes.json", "near_duplicates": 4}
    for _ in range(2):
        assert generate({**options, "out": tmp_path / "out"})["records"] == 3
        (rejected,) = lines(tmp_path / "out" / "rejects.jsonl")
        assert (rejected["id"], rejected["kind"]) == ("zz-again", "near-duplicate image")
        assert "of chelsea" in rejected["reason"] and not (tmp_path / "out" / "images" / "zz-again.jpg").exists()


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(tmp_path):
    options = {**SCENES, "count": 50, "recipe": ["listing", "qa"], "out": tmp_path / "out", "dry_run": True}
    found = generate(options)
    assert (found["images"], found["sampled"], found["requests"], found["cost"]) == (50, 20, 100, 0)
    assert not (tmp_path / "out").exists()
    served = {"annotator": "openai_compatible", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    prices = {"price_per_million_prompt": 2.5, "price_per_million_completion": 10}
    found = generate({**options, **served, **prices})
    assert found["prompt_tokens"] > 50 * 100 and found["cost"] > 0


def test_a_source_that_cannot_work_stops_the_run(tmp_path, monkeypatch):
    def fail(self, ref, image):
        raise ImportError("no segmenter here")

    monkeypatch.setattr(SceneSource, "regions", fail)
    with pytest.raises(ImportError, match="no segmenter here"):
        generate({**SCENES, "out": tmp_path})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "'source' is required.*coco"),
        ({"source": ["coco"]}, "Unknown source.*Did you mean 'coco'"),
        ({"source": "coc"}, "Unknown source 'coc'. Did you mean 'coco'"),
        ({"source": "scenes"}, "'out' is required"),
        ({"source": "scenes", "images": "x"}, r"Unknown option 'images' \(it belongs to source=boxes, classical, "),
        ({"source": "scenes", "level": 2}, r"Unknown option 'level' \(it belongs to source=sam\). Allowed: "),
        ({"source": None}, "source= needs a value: boxes, "),
        ({"source": "scenes", "recipe": None}, "recipe= needs a value: document, listing, qa"),
        ({"source": "scenes", "formats": None}, "formats= needs a value: docowl, parquet, "),
        ({"source": "scenes", "recipe": 5}, "Unknown recipe '5'"),
        ({"source": "scenes", "out": "x", "colours": None}, "colours= needs a value: "),
        (
            {"source": "scenes", "out": "x", "marks": {"draw": "mask"}},
            r"draw=\[mask\]: .*Write marks.draw=\[mark,mask\]",
        ),
        ({"source": "scenes", "out": "x", "marks": "paper"}, "marks='paper': .* marks.NAME=value .*preset=NAME"),
        ({"source": "scenes", "out": "x", "recipe": "trace"}, "source=scenes does not know. Use source=video"),
        (
            {"source": "scenes", "out": "x", "recipe": "qa", "turns": 3},
            r"turns=3: takes 2 values. Write turns=\[2, 5\]",
        ),
        ({"source": "scenes", "cuont": 3}, "Did you mean 'count'"),
        ({"source": "scenes", "out": "x", "count": "many"}, "count='many'"),
        ({"source": "scenes", "recipe": "lsting"}, "Unknown recipe 'lsting'. Did you mean 'listing'"),
        ({"source": "scenes", "annotator": "gpt"}, "Unknown annotator 'gpt'"),
        ({"source": "scenes", "out": "x", "preset": "papr"}, "Did you mean 'paper'"),
        ({"source": "scenes", "out": "x", "marks": {"font_pixels": 3}}, "Did you mean 'font_px'"),
        ({"source": "scenes", "out": "x", "marks": {"font_px": 0}}, "font_px=0: at least 1"),
        ({"source": "scenes", "out": "x", "marks": {"font": "/nowhere.ttf"}}, "/nowhere.ttf"),
        ({"source": "scenes", "out": "x", "marks": {"padding": -1}}, "padding=-1"),
        ({"source": "scenes", "out": "x", "marks": {"tag_opacity": 5}}, "tag_opacity=5"),
        ({"source": "scenes", "out": "x", "marks": {"text_rgb": [300, 0, 0]}}, "0 to 255"),
        ({"source": "scenes", "out": "x", "count": 0}, "count=0"),
        ({"source": "scenes", "out": "x", "seed": -1}, "seed=-1"),
        ({"source": "scenes", "out": "x", "jitter": 9}, "jitter=9"),
        ({"source": "scenes", "out": "x", "colours": []}, "colours=.*at least one"),
        ({"source": "scenes", "out": "x", "area": [0, 0.1]}, "area="),
        ({"source": "scenes", "out": "x", "background": [9, 300]}, "background="),
        ({"source": "scenes", "out": "x", "workers": 0}, "workers=0"),
        ({"source": "scenes", "out": "x", "engine": "spark"}, "Unknown engine 'spark'"),
        ({"source": "scenes", "out": "x", "formats": ["parket"]}, "Did you mean 'parquet'"),
        ({"source": "scenes", "out": "x", "recipe": ["listing", "listing"]}, "each once"),
        ({"source": "scenes", "out": "x", "near_duplicates": 40}, "near_duplicates=40"),
        ({"source": "scenes", "out": "x", "image_format": "gif"}, "image_format='gif'"),
        ({"source": "classical", "out": "x"}, "'images' is required"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        generate(options)
    assert not list(tmp_path.iterdir())


def test_files_that_no_run_made_are_never_written_over(tmp_path):
    """The photos in data/images, the output in data: the marked copies would take the photos' places."""
    photos = write_photos(tmp_path / "data" / "images")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="data/images: is there already"):
        generate({"source": "classical", "recipe": "qa", "images": photos, "out": tmp_path / "data"})
    assert tree(tmp_path) == before


def test_two_runs_never_write_one_folder_at_once(tmp_path):
    with sole_writer(tmp_path), pytest.raises(ValueError, match="being written by another run"):
        generate({**SCENES, "out": tmp_path})
    assert generate({**SCENES, "out": tmp_path})["records"] == 8
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "records.jsonl").write_text('[1, 2]\n{"id": "a"}\n')
    with pytest.raises(ValueError, match="line 1 is not of a run of this tool"):
        generate({**SCENES, "out": tmp_path})


def test_another_option_of_one_recipe_is_named(tmp_path):
    options = {**SCENES, "recipe": ["listing", "qa"], "out": tmp_path}
    generate(options)
    with pytest.raises(ValueError, match=r"another recipe.listing.max_words: \d+ there, 9 here"):
        generate({**options, "max_words": 9, "recipe": ["listing", "qa"]})
    with pytest.raises(ValueError, match=r"another recipe: \['listing', 'qa'\] there, \['listing'\] here"):
        generate({**options, "recipe": "listing"})


def test_another_preset_is_named_before_its_fields(tmp_path):
    generate({**SCENES, "count": 1, "marks": {}, "out": tmp_path})
    with pytest.raises(ValueError, match=r"another preset.name: paper there, clear here, and another preset.cont"):
        generate({**SCENES, "count": 1, "marks": {}, "preset": "clear", "out": tmp_path})


@pytest.mark.parametrize("source", ["classical", "sam", "video"])
@pytest.mark.parametrize("recipe", ["listing", "refer"])
def test_names_are_not_asked_of_a_source_that_has_none(tmp_path, source, recipe):
    options = {"source": source, "recipe": recipe, "images": tmp_path, "out": tmp_path / "out"}
    told = (
        rf"recipe={recipe} needs names .* source={source} has none: annotator=openai_compatible .* source=boxes, coco"
    )
    with pytest.raises(ValueError, match=told):
        plan_run(options)
    assert plan_run({**options, "recipe": "qa"}).recipes  # places and sizes are certain without names
    assert plan_run({**options, "annotator": "openai_compatible", "model": "m"}).recipes


def test_a_shorter_run_says_what_its_lists_leave_out(tmp_path, caplog):
    generate({**SCENES, "out": tmp_path})
    assert "not among" not in caplog.text
    assert generate({**SCENES, "limit": 5, "out": tmp_path})["records"] == 5
    assert "3 images of earlier runs are not among the 5 of this one: they stay in records.jsonl" in caplog.text
    assert generate({**SCENES, "out": tmp_path})["records"] == 8


def test_an_image_or_dump_that_was_replaced_is_marked_again(tmp_path):
    photos, dumps, out = write_photos(tmp_path / "photos"), tmp_path / "dumps", tmp_path / "out"
    dumps.mkdir()
    for photo in photos.iterdir():
        (dumps / f"{photo.stem}.json").write_text('[{"bbox": [10, 10, 120, 80], "name": "thing"}]')
    options = {"source": "boxes", "images": photos, "annotations": dumps, "out": out}
    generate(options)

    def replaced(change):
        before = {file.name: file.stat().st_mtime_ns for file in (out / "images").glob("*.jpg")}
        change()
        assert generate(options)["records"] == 3
        after = {file.name: file.stat().st_mtime_ns for file in (out / "images").glob("*.jpg")}
        return [name for name in after if after[name] != before.get(name)]

    assert replaced(lambda: None) == []
    assert replaced(lambda: (photos / "coffee.jpg").write_bytes((photos / "chelsea.jpg").read_bytes())) == [
        "coffee.jpg"
    ]
    assert replaced(lambda: (dumps / "chelsea.json").touch()) == ["chelsea.jpg"]
    assert replaced(lambda: (photos / "coffee.jpg").rename(photos / "coffee.JPG")) == ["coffee.jpg"]


def test_names_that_collide_or_climb_cost_their_images_alone(tmp_path):
    photo = write_photos(tmp_path / "photos") / "coffee.jpg"
    Image.open(photo).save(photo.parent / "cup.png")
    (photo.parent / "cup.jpg").mkdir()  # cup.png becomes images/cup.jpg, which this folder wants to be
    deep = "/".join(["d" * 250] * 15)  # legal, but not below a longer folder
    names = ["coffee.jpg", "sub/../coffee.jpg", "cup.png", "cup.jpg/a.png", f"{deep}/coffee.jpg"]
    Image.open(photo).save(photo.parent / "cup.jpg" / "a.png")
    boxes = {name: [{"bbox": [10, 10, 120, 80], "name": "thing"}] for name in names}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    (photo.parent / "sub").mkdir()
    options = {"source": "boxes", "images": photo.parent, "annotations": tmp_path / "boxes.json"}
    assert generate({**options, "out": tmp_path / "out"})["records"] == 2
    reasons = {line["file"]: line["reason"] for line in lines(tmp_path / "out" / "rejects.jsonl")}
    assert "holds '..'" in reasons[names[1]] and "under this name" in reasons[names[3]] and names[4] in reasons
    assert tag(photo.parent, tmp_path / "tagged", "boxes", annotations=tmp_path / "boxes.json")["rejected"] == 2


def test_any_file_name_is_carried_or_set_aside(tmp_path):
    photo = write_photos(tmp_path / "photos") / "coffee.jpg"
    long = f"{'l' * 244}.jpg"  # a legal name, but its sidecar's would not be
    names = ["日本 ünï.jpg", "line\u2028break.jpg", os.fsdecode(b"stray\xff.jpg"), long]
    for name in names:
        (photo.parent / name).write_bytes(photo.read_bytes())
    boxes = {name: [{"bbox": [10, 10, 120, 80], "name": "thing"}] for name in names}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = {"source": "boxes", "images": photo.parent, "annotations": tmp_path / "boxes.json"}
    for _ in range(2):  # the second time from the journal
        assert generate({**options, "out": tmp_path / "out"})["records"] == 2
        stray, lengthy = lines(tmp_path / "out" / "rejects.jsonl")
        assert stray["file"] == names[2] and "not valid UTF-8" in stray["reason"]
        assert lengthy["file"] == long and "name is too long" in lengthy["reason"]

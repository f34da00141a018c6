from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from llava_som.marks import PRESETS, MarkRecord, Region, mark_image
from llava_som.marks.tags import label_of, tag_size, tag_style, tag_tile

CLEAR = PRESETS["clear"]
DEJAVU = str(font_manager.findfont("DejaVu Sans"))  # comes with matplotlib


def changed(**fields):
    return dataclasses.replace(CLEAR, **fields)


def test_letters_go_on_after_z_like_columns_of_a_spreadsheet():
    letters = changed(labels="letters")
    expected = {1: "a", 26: "z", 27: "aa", 52: "az", 53: "ba", 702: "zz", 703: "aaa"}
    assert {number: label_of(number, letters) for number in expected} == expected
    assert len({label_of(number, letters) for number in range(1, 800)}) == 799


def test_own_labels_are_used_in_order():
    assert [label_of(number, changed(labels=("one", "two"))) for number in (1, 2)] == ["one", "two"]


@pytest.mark.parametrize("size", [(336, 200), (500, 375), (640, 640), (853, 640), (3840, 2160)])
@pytest.mark.parametrize("font", [None, DEJAVU], ids=["embedded", "file"])
def test_digits_keep_their_height_through_the_resizing_of_the_model(size, font):
    style = tag_style(changed(font=font), size)
    scale = max(size) / 336
    for digit in "0123456789":
        white = np.asarray(tag_tile(digit, style, (255, 255, 255), (0, 0, 0)))[..., 0].max(axis=1) > 127
        height = int(white.sum())
        assert 11 * scale - 1 <= height <= 13 * scale + 1
    one_smaller = dataclasses.replace(style, font_px=style.font_px - 1)
    assert tag_size("8", one_smaller)[1] < tag_size("8", style)[1]


@pytest.mark.parametrize("labels", ["numbers", "letters", ("Äpfel", "y_g", "Ж")])
def test_text_stays_inside_its_tag(labels):
    preset = changed(max_tags=26, labels=labels, font=DEJAVU if isinstance(labels, tuple) else None)
    style = tag_style(preset, (640, 480))
    for number in range(1, preset.mark_limit + 1):
        tile = np.asarray(tag_tile(label_of(number, preset), style, (255, 255, 255), (0, 0, 0)))
        ink = np.argwhere(tile[..., 0] > 127)
        assert (ink.min(axis=0) >= 1).all() and (ink.max(axis=0) < np.array(tile.shape[:2]) - 1).all()


def test_a_character_the_font_lacks_is_named():
    for preset, message in [
        (changed(labels=("三",)), r"embedded in Pillow has no character '三'.*font="),
        (changed(labels=("三",), font=DEJAVU), r"DejaVuSans\.ttf' has no character '三'"),
    ]:
        with pytest.raises(ValueError, match=message):
            tag_style(preset, (640, 480))


def test_a_font_of_your_own_is_recorded_and_checked_when_drawn_again(tmp_path):
    font = tmp_path / "own.ttf"
    shutil.copy(DEJAVU, font)
    image, regions = Image.new("RGB", (400, 400), "navy"), [Region.from_box([50, 50, 200, 200], (400, 400))]
    preset = changed(font=str(font), labels=("№ 1", "№ 2"))
    marked = mark_image(image, regions, preset)
    assert [mark.label for mark in marked.record.marks] == ["№ 1"]
    assert marked.image.tobytes() != mark_image(image, regions).image.tobytes()
    record = MarkRecord.load(marked.save(tmp_path / "a.png"))
    assert record.redraw(image).tobytes() == marked.image.tobytes()
    other = record.model_copy(update={"font_sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"own\.ttf is not the font that these marks were drawn with"):
        other.redraw(image)
    moved = record.model_copy(update={"preset": dataclasses.replace(preset, font=str(tmp_path / "gone.ttf"))})
    with pytest.raises(ValueError, match=r"gone\.ttf' cannot be read: .*Give the path"):
        moved.redraw(image)


@pytest.mark.parametrize("content", [None, b"no font"])
def test_a_file_that_is_no_font_is_named(tmp_path, content):
    font = tmp_path / "bad.ttf"
    if content is not None:
        font.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.ttf' cannot be read"):
        tag_style(changed(font=str(font)), (640, 480))

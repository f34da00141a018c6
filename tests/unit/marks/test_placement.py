from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llava_som.marks import PRESETS, Kept, MarkRecord, Region, mark_image, place_marks
from llava_som.marks.anchors import crowding, place_on_anchor
from llava_som.marks.beside import Sights, place_beside
from llava_som.marks.boxes import Taken, contains, tag_box
from llava_som.marks.tags import tag_size, tag_style

PAPER, CLEAR, UI = PRESETS["paper"], PRESETS["clear"], PRESETS["ui"]


def changed(preset=CLEAR, **fields):
    return dataclasses.replace(preset, **fields)


def placed(regions, preset=CLEAR):
    return place_marks([Kept(region, region) for region in regions], preset)


def boxes_of(marks):
    return np.array([mark.tag_box_xyxy for mark in marks]).reshape(-1, 4)


def assert_apart_and_inside(marks, image_size, gap=2):
    boxes = boxes_of(marks)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= image_size).all()
    for place, box in enumerate(boxes):
        others = np.delete(boxes, place, axis=0)
        apart = (box[:2] >= others[:, 2:] + gap) | (box[2:] + gap <= others[:, :2])
        assert apart.any(axis=1).all(), f"tag {place + 1} is too near to another"


def test_marks_are_numbered_from_one_and_centred():
    region = Region.from_box([100, 100, 201, 101], (640, 480), name="dog")
    for preset in (PAPER, CLEAR):
        (mark,), skipped = placed([region], preset)
        left, top, right, bottom = mark.tag_box_xyxy
        assert (mark.id, mark.label, mark.region, mark.leader_xyxy, skipped) == (1, "1", region, None, [])
        assert (right - left, bottom - top) == tag_size("1", tag_style(preset, (640, 480)))
        assert abs((left + right) / 2 - mark.point_xy[0]) <= 1 and abs((top + bottom) / 2 - mark.point_xy[1]) <= 1


@pytest.mark.parametrize("preset", [PAPER, CLEAR], ids=lambda preset: preset.name)
@pytest.mark.parametrize("point", [(0, 0), (852, 0), (0, 639), (852, 639), (426, 320)])
def test_three_digit_tags_stay_in_the_frame(point, preset):
    width, height = tag_size("128", tag_style(preset, (853, 640)))
    left, top, right, bottom = tag_box(point, (width, height), (853, 640))
    assert left >= 0 and top >= 0 and right <= 853 and bottom <= 640
    assert (right - left, bottom - top) == (width, height)
    assert left <= point[0] < right and top <= point[1] < bottom


def test_a_tag_larger_than_the_image_is_cut_on_paper_and_left_out_elsewhere():
    assert tag_box((5, 5), (47, 27), (10, 12)) == (0, 0, 10, 12)
    strip = Region.from_box([0, 0, 3000, 30], (3000, 30))
    for preset in (CLEAR, UI):
        marks, (skipped,) = placed([strip], preset)
        assert marks == [] and "larger than the image, 3000x30: set font_px or raise model_input_side" in skipped.reason
    (mark,), _ = placed([strip], changed(font_px=20))
    assert mark.tag_box_xyxy[3] <= 30


def test_a_taken_peak_moves_the_tag_inside_the_same_region():
    outer = Region.from_mask(np.ones((400, 400), bool))
    inner = Region.from_box([190, 190, 21, 21], (400, 400))
    (first, second), _ = placed([inner, outer], changed(tag_fit=0.1))
    assert first.point_xy == (200, 200) and second.leader_xyxy is None
    left, top, right, bottom = second.tag_box_xyxy
    assert not (left <= 200 < right and top <= 200 < bottom)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    assert np.minimum(middle, 400 - middle).min() >= 100, "half as deep as the middle, at least"


def test_a_region_smaller_than_its_tag_is_left_visible_and_gets_a_line():
    dot = Region.from_box([200, 150, 8, 8], (400, 300), name="dot")
    (mark,), _ = placed([dot])
    left, top, right, bottom = mark.tag_box_xyxy
    assert max(200 - right, left - 208, 150 - bottom, top - 158) >= 2 * tag_style(CLEAR, (400, 300)).gap
    begin_x, begin_y, end_x, end_y = mark.leader_xyxy
    assert dot.full_mask()[begin_y, begin_x]
    assert left <= end_x < right and top <= end_y < bottom
    assert np.hypot(end_x - begin_x, end_y - begin_y) < 3 * (bottom - top)
    drawn = np.asarray(mark_image(Image.new("RGB", (400, 300), (90, 90, 90)), [dot]).image)
    assert (drawn[(begin_y + end_y) // 2, (begin_x + end_x) // 2] != 90).any(), "the line is drawn"


@pytest.mark.parametrize(("box", "beside"), [((200, 150, 15, 16), True), ((100, 150, 80, 3), False)])
def test_a_tag_that_would_hide_its_region_goes_beside_it(box, beside):
    region = Region.from_box(box, (400, 300))
    (mark,), _ = placed([region])
    assert region.area == 240 and bool(mark.leader_xyxy) is beside
    (mark,), _ = placed([region], changed(tag_fit=0))
    assert mark.leader_xyxy is None


def test_without_room_the_region_is_skipped_with_the_reason():
    dots = [Region.from_box([x, y, 9, 9], (120, 120)) for x in range(0, 120, 10) for y in range(0, 120, 10)]
    marks, skipped = placed(dots, changed(font_px=30))
    assert 1 <= len(marks) < 12 and len(marks) + len(skipped) == 144
    assert {item.reason.rsplit(" of ", 1)[0] for item in skipped} == {"no free place on it or near it for its tag"}
    assert_apart_and_inside(marks, (120, 120))
    assert len(placed(dots, changed(font_px=30, draw=("mask",)))[0]) == 144, "tags that are not drawn need no room"


def test_a_line_begins_where_no_tag_lies():
    regions = [Region.from_box([201 - wide, 138, 2 * wide - 1, 25], (400, 300)) for wide in (13, 21)]
    (first, second), _ = placed(regions)
    assert first.point_xy == second.point_xy == (200, 150) and first.leader_xyxy is None
    assert not contains(boxes_of([first]), np.array(second.leader_xyxy[:2])).any()


def along(line):
    """Where the way of a line is checked, but for its end, which lies in its tag."""
    return np.linspace(line[:2], line[2:], 8)[:-1]


def test_a_tag_beside_goes_farther_rather_than_hide_a_point_or_lead_its_line_under_a_tag():
    point, size = np.array([200, 150]), (30, 20)
    near = np.array([(x, y) for x in range(165, 240, 6) for y in range(125, 180, 6)])
    for hidden, expected_hidden in [(point[None], True), (near, False)]:
        clear = np.array([195, 145, 206, 156])
        tag, _ = place_beside(point, clear, size, (400, 300), Taken(1, 2), Sights(hidden), 4)
        assert contains(np.array([tag]), near).any() == expected_hidden
    point, clear, taken = np.array([8, 150]), np.array([2, 50, 14, 250]), Taken(1, 2)
    taken.add((16, 140, 18, 160))
    _, line = place_beside(point, clear, size, (400, 300), taken, Sights(point[None]), 4)
    assert not contains(taken.boxes, along(line)).any()


def test_no_tag_lies_on_the_line_of_another():
    marks, _ = placed([Region.from_box([x, 140, 8, 8], (400, 300)) for x in range(100, 300, 9)], changed(max_tags=None))
    lines = [mark.leader_xyxy for mark in marks if mark.leader_xyxy]
    assert len(lines) > 20 and not contains(boxes_of(marks), np.concatenate([along(line) for line in lines])).any()


@st.composite
def scenes(draw):
    """An image size and up to 40 masks: blobs, bars, rings and specks anywhere, corners included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width, height = (int(side) for side in rng.integers(*draw(st.sampled_from([(8, 60), (60, 340), (300, 900)])), 2))
    regions = []
    for _ in range(rng.integers(0, 41)):
        mask = np.zeros((height, width), np.uint8)
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = rng.integers(1, max(2, (width + height) // int(rng.choice([6, 20, 80]))), 2).tolist()
        filled = cv2.FILLED if rng.random() < 0.8 else int(rng.integers(1, 12))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, filled)
        if mask.any():
            regions.append(Region.from_mask(mask, score=float(rng.random())))
    pixels = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (width, height))
    return Image.fromarray(pixels), regions


PRESET_MATRIX = [
    CLEAR,
    UI,
    changed(name="many", max_tags=None, nms_iou=None, containment=None, min_share=0.0),
    changed(name="letters", labels="letters", numbering="shuffled", draw=("mark", "mask", "boundary")),
    changed(UI, name="wide", font_px=40, draw=("mark", "box", "mask"), numbering="shuffled"),
]


@pytest.mark.parametrize("preset", PRESET_MATRIX, ids=lambda preset: preset.name)
@settings(max_examples=15, deadline=None)
@given(scenes())
def test_tags_keep_apart_in_the_frame_and_can_be_drawn_again(preset, scene):
    image, regions = scene
    marked = mark_image(image, regions, preset, seed=5)
    record = MarkRecord.model_validate_json(marked.record.to_json())
    assert_apart_and_inside(record.marks, marked.image.size)
    assert [mark.id for mark in record.marks] == list(range(1, len(record.marks) + 1))
    assert len(record.marks) + len(record.skipped) == len(regions)
    assert len(record.marks) <= (preset.max_tags or len(regions))
    for mark in record.marks:
        assert mark.visible.full_mask()[mark.point_xy[::-1]]
        if mark.leader_xyxy:
            assert mark.visible.full_mask()[mark.leader_xyxy[1], mark.leader_xyxy[0]]
    again = mark_image(image, regions, preset, seed=5)
    assert again.record.to_json() == marked.record.to_json()
    assert record.redraw(image).tobytes() == marked.image.tobytes() == again.image.tobytes()


def test_labels_of_boxes_take_the_anchor_that_runs_least_into_others():
    box, size, image_size = (100, 100, 200, 140), (30, 20), (400, 400)
    above = np.array([[90, 60, 210, 99]])
    place = place_on_anchor(box, above, size, image_size, Taken(2, 2))
    assert place[1] >= 140, "below, far from the box above"
    taken = Taken(2, 2)
    taken.add((100, 140, 200, 160))
    place = place_on_anchor(box, above, size, image_size, taken)
    assert place[2] <= 100 or place[0] >= 200, "at a side"
    near_the_first = Taken(1, 2)
    near_the_first.add((60, 70, 90, 90))
    place = place_on_anchor(box, np.empty((0, 4), int), size, image_size, near_the_first)
    assert place[:2] == (200, 120), "far from the other label"
    whole = place_on_anchor((0, 0, 400, 400), np.empty((0, 4), int), size, image_size, Taken(1, 2))
    assert whole == (0, 0, 30, 20), "inside, where nothing is outside"
    assert place_on_anchor((0, 0, 20, 10), np.empty((0, 4), int), (21, 11), (20, 10), Taken(1, 2)) is None


def test_crowding_is_overlap_less_a_little_distance():
    places = np.array([[0, 0, 10, 10], [100, 0, 110, 10]])
    obstacles = np.array([[5, 5, 25, 25], [150, 40, 160, 50]])
    assert crowding(places, obstacles) == pytest.approx([25 - 1e-4 * np.hypot(5, 5), -1e-4 * np.hypot(40, 30)])
    assert crowding(places, np.empty((0, 4), int)).tolist() == [0, 0]

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from llava_som.marks import PRESETS, Kept, Region, place_marks
from llava_som.marks.placement import deepest_point, tag_box
from llava_som.marks.render import tag_size

PAPER = PRESETS["paper"]


def mask_of(*boxes, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = True
    return mask


def test_bar_takes_the_middle_of_its_ridge():
    assert deepest_point(Region.from_mask(mask_of((10, 20, 41, 5)))) == (30, 22)


@pytest.mark.parametrize(
    ("box", "expected"),
    [((0, 0, 41, 5), (20, 2)), ((76, 19, 5, 41), (78, 39)), ((0, 0, 81, 59), (40, 29))],
    ids=["top left", "bottom right", "whole image"],
)
def test_the_image_border_is_an_edge(box, expected):
    assert deepest_point(Region.from_mask(mask_of(box, shape=(60, 81)))) == expected


def test_l_shape_takes_the_thick_corner():
    point = deepest_point(Region.from_mask(mask_of((10, 10, 10, 45), (10, 45, 60, 10))))
    assert point == (15, 49)


def test_ring_is_not_tagged_in_its_hole():
    ring = np.zeros((100, 100), np.uint8)
    cv2.circle(ring, (50, 50), 40, 1, -1)
    cv2.circle(ring, (50, 50), 20, 0, -1)
    x, y = deepest_point(Region.from_mask(ring))
    assert ring[y, x] and 27 < np.hypot(x - 50, y - 50) < 34


@settings(max_examples=60)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)).filter(lambda mask: mask.any()))
def test_equals_the_definition(mask):
    """Brute force: distance to the nearest pixel outside, the outside of the image included; middle arg-max."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    inside = np.argwhere(mask) + 1
    squared = ((inside[:, None] - outside[None]) ** 2).sum(-1).min(1)
    deepest = np.flatnonzero(squared == squared.max())
    row, column = inside[deepest[len(deepest) // 2]] - 1
    assert deepest_point(Region.from_mask(mask)) == (column, row)


def test_marks_are_numbered_from_one_and_centred():
    region = Region.from_box([100, 100, 201, 101], (640, 480), name="dog")
    (mark,) = place_marks([Kept(region, region)], PAPER)
    left, top, right, bottom = mark.tag_box_xyxy
    assert (mark.id, mark.label, mark.region) == (1, "1", region)
    assert (right - left, bottom - top) == tag_size("1", PAPER)
    assert abs((left + right) / 2 - mark.point_xy[0]) <= 1 and abs((top + bottom) / 2 - mark.point_xy[1]) <= 1


@pytest.mark.parametrize("point", [(0, 0), (852, 0), (0, 639), (852, 639), (426, 320)])
def test_three_digit_tags_stay_in_the_frame(point):
    width, height = tag_size("128", PAPER)
    left, top, right, bottom = tag_box(point, (width, height), (853, 640))
    assert left >= 0 and top >= 0 and right <= 853 and bottom <= 640
    assert (right - left, bottom - top) == (width, height)
    assert left <= point[0] < right and top <= point[1] < bottom


def test_a_tag_larger_than_the_image_is_cut():
    assert tag_box((5, 5), (47, 27), (10, 12)) == (0, 0, 10, 12)

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llava_som.marks import Region
from llava_som.marks.depth import _CHAMFER, deep_points, deepest_point


def mask_of(*boxes, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = True
    return mask


def by_definition(mask):
    """The distance of every pixel, the outside of the image included; the middle one of the deepest."""
    padded = np.pad(mask.astype(np.uint8), 1)
    squared = np.rint(np.square(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)))
    deepest = np.argwhere(squared == squared.max())
    row, column = deepest[len(deepest) // 2] - 1
    return column, row


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


@pytest.mark.parametrize("scale", [1, 6], ids=["small", "large"])
def test_ring_is_not_tagged_in_its_hole(scale):
    ring = np.zeros((100 * scale, 100 * scale), np.uint8)
    cv2.circle(ring, (50 * scale, 50 * scale), 40 * scale, 1, -1)
    cv2.circle(ring, (50 * scale, 50 * scale), 20 * scale, 0, -1)
    x, y = deepest_point(Region.from_mask(ring))
    assert ring[y, x] and 27 < np.hypot(x - 50 * scale, y - 50 * scale) / scale < 34


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)).filter(lambda mask: mask.any()))
def test_equals_the_definition(mask):
    outside, inside = np.argwhere(~np.pad(mask, 1)), np.argwhere(mask) + 1
    squared = ((inside[:, None] - outside[None]) ** 2).sum(-1).min(1)
    deepest = np.flatnonzero(squared == squared.max())
    row, column = inside[deepest[len(deepest) // 2]] - 1
    assert deepest_point(Region.from_mask(mask)) == (column, row) == by_definition(mask)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_measuring_few_pixels_finds_the_same_one(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(rng.integers(90, 400, 2), np.uint8)
    for _ in range(rng.integers(1, 6)):
        centre, axes = rng.integers(0, mask.shape[::-1]).tolist(), rng.integers(1, mask.shape[::-1]).tolist()
        fill = int(rng.random() < 0.75)
        if rng.random() < 0.7:
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, fill, cv2.FILLED)
        else:
            mask[centre[1] : centre[1] + axes[1], centre[0] : centre[0] + axes[0]] = fill
    if mask.any():
        assert deepest_point(Region.from_mask(mask)) == by_definition(mask)


def test_the_chamfer_mask_errs_no_more_than_is_allowed_for():
    one_pixel_outside = np.ones((1001, 1001), np.uint8)
    one_pixel_outside[500, 500] = 0
    approximate = cv2.distanceTransform(one_pixel_outside, cv2.DIST_L2, cv2.DIST_MASK_5)
    row, column = np.indices(approximate.shape) - 500
    share = approximate[row**2 + column**2 > 0] / np.hypot(row, column)[row**2 + column**2 > 0]
    assert _CHAMFER[0] <= share.min() < 1 < share.max() <= _CHAMFER[1]


def test_a_panorama_is_measured_exactly_too():
    mask = np.zeros((300, 3000), np.uint8)
    cv2.ellipse(mask, (2700, 140), (280, 120), 3, 0, 360, 1, cv2.FILLED)
    cv2.ellipse(mask, (500, 160), (430, 118), 1, 0, 360, 1, cv2.FILLED)
    assert deepest_point(Region.from_mask(mask)) == by_definition(mask)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 40), (40, 8), (301, 300)])
def test_a_rectangle_needs_no_transform(size):
    assert deepest_point(Region.from_mask(np.ones(size, bool))) == by_definition(np.ones(size, bool))


@pytest.mark.parametrize("spacing", [1, 6, 30])
def test_deep_points_lie_inside_from_deep_to_shallow(spacing):
    mask = mask_of((10, 10, 100, 60), (150, 10, 40, 50), (0, 80, 150, 3), shape=(90, 200))
    points = deep_points(Region.from_mask(mask), spacing)
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    found = depth[points[:, 1], points[:, 0]]
    assert found.min() > depth.max() / 2 - spacing / 2 and (np.diff(found) < spacing).all()
    assert found[0] > depth.max() - spacing / 2 and len(np.unique(points, axis=0)) == len(points)
    assert {"left", "right"} == {"left" if x < 130 else "right" for x, _ in points}, "each thick part has some"


def test_equally_deep_points_come_in_the_same_order_wherever_the_memory_lies():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        mask = np.zeros((70, 190), np.uint8)
        cv2.ellipse(mask, (95, 35), rng.integers(10, 90, 2).tolist(), float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
        region, kept = Region.from_mask(mask), []
        for size in range(20):
            kept.append((bytearray(7 + 13 * size), deep_points(region, 2).tolist()))
        assert all(points == kept[0][1] for _, points in kept)

"""Relations between marks, checked against the pixels."""

from itertools import permutations

import numpy as np
import pytest

from data_gen.geometry import MARGIN, OPPOSITE, SIZE_RATIO, Layout
from llava_som.marks import Region
from tests.unit.data_gen.conversations import SIDE, scattered, tagged

NAMES = ["dog", "cup"]


def layout(*boxes):
    return Layout.of(tagged([Region.from_box(box, (SIDE, SIDE), name="dog") for box in boxes]).record)


@pytest.fixture(scope="module", params=range(6))
def scene(request):
    found = Layout.of(scattered(request.param, NAMES).record)
    return found, {thing.label: thing.mark.region().full_mask() for thing in found.things}


def extent(mask, axis):
    hit = np.flatnonzero(mask.any(axis=axis))
    return hit[0], hit[-1]


def test_beside_means_apart_in_the_pixels_too(scene):
    found, masks = scene
    relations = 0
    for a, b in permutations(found.things, 2):
        for direction in found.directions(a, b):
            relations += 1
            axis = 0 if direction in ("left", "right") else 1
            first, second = (a, b) if direction in ("left", "above") else (b, a)
            (low, high), (next_low, next_high) = extent(masks[first.label], axis), extent(masks[second.label], axis)
            assert high < next_low and (next_low + next_high) / 2 - (low + high) / 2 > MARGIN * SIDE - 1
            assert found.lies(b, OPPOSITE[direction], a) and not found.lies(b, direction, a)
            assert found.lies_not(b, direction, a) and not found.lies_not(a, direction, b)
    assert relations > 10


def test_the_gap_is_that_of_the_pixels_to_within_two_blocks(scene):
    from scipy.ndimage import distance_transform_edt

    found, masks = scene
    for a, b in permutations(found.things[:5], 2):
        exact = max(0.0, float(distance_transform_edt(~masks[b.label])[masks[a.label]].min()) - 1)
        assert abs(found.gap(a, b) - exact) <= 8


def test_the_nearest_leaves_no_larger_gap_than_any_other(scene):
    found, _ = scene
    for thing in found.things:
        nearest = found.nearest(found.things, thing)
        if nearest is not None:
            assert nearest is not thing
            others = [other for other in found.things if other not in (thing, nearest)]
            assert all(found.gap(nearest, thing) <= found.gap(other, thing) for other in others)


def test_larger_means_larger_in_pixels_by_half(scene):
    found, masks = scene
    pairs = [(a, b) for a, b in permutations(found.things, 2) if found.is_larger(a, b)]
    assert pairs and all(masks[a.label].sum() >= SIZE_RATIO * masks[b.label].sum() for a, b in pairs)


def test_who_is_level_is_neither_left_nor_right():
    level = layout((100, 20, 40, 40), (110, 200, 60, 60))
    low, high = level.things
    assert level.directions(low, high) == ["above"] and level.directions(high, low) == ["below"]
    overlapping = layout((10, 10, 100, 100), (60, 60, 110, 110))
    assert overlapping.directions(*overlapping.things) == []


def test_rows_and_extremes_need_every_step_to_be_certain():
    row = layout((10, 10, 40, 40), (100, 10, 42, 42), (200, 10, 44, 44))
    assert [thing.label for thing in row.in_order(row.things, "right")] == ["3", "2", "1"]
    assert row.farthest(row.things, "left") is row.things[0] and row.farthest(row.things, "above") is None
    crowd = layout((10, 10, 40, 40), (30, 100, 42, 42), (200, 10, 44, 44))
    assert crowd.in_order(crowd.things, "left") is None and crowd.farthest(crowd.things, "left") is None
    assert crowd.farthest(crowd.things, "right") is crowd.things[2]


def test_a_ring_is_not_smaller_than_a_square_of_its_size():
    disc, ring = np.zeros((2, SIDE, SIDE), bool)
    disc[10:90, 10:90] = ring[10:90, 110:190] = True
    ring[14:86, 114:186] = False
    pair = Layout.of(tagged([Region.from_mask(mask, name="dog") for mask in (disc, ring)]).record)
    assert not any(pair.is_larger(a, b) for a, b in permutations(pair.things, 2))


def test_sizes_that_are_close_have_no_largest():
    close = layout((10, 10, 40, 40), (100, 10, 44, 44), (200, 10, 80, 80))
    assert close.largest(close.things) is close.things[2] and close.smallest(close.things) is None
    assert close.nearest(close.things[:1], close.things[0]) is None

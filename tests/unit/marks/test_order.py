from __future__ import annotations

import numpy as np
import pytest

from llava_som.marks import PRESETS, Region, get_preset, order_regions

PAPER = PRESETS["paper"]


def box(x, y, width, height, name=None):
    return Region.from_box([x, y, width, height], (200, 200), name=name)


def test_nested_squares_are_numbered_from_the_inside_and_lose_what_lies_inside():
    outer, middle, inner = box(0, 0, 100, 100, "outer"), box(20, 20, 60, 60, "middle"), box(40, 40, 20, 20, "inner")
    kept, skipped = order_regions([outer, inner, middle], PAPER)
    assert [item.region.name for item in kept] == ["inner", "middle", "outer"] and not skipped
    assert [item.visible.area for item in kept] == [400, 3600 - 400, 10000 - 3600]
    assert sum(item.visible.full_mask().astype(int) for item in kept).max() == 1
    assert [item.region.area for item in kept] == [400, 3600, 10000]


def test_a_sliver_is_skipped_takes_no_number_and_still_carves():
    sliver, thing = box(0, 0, 109, 1, "sliver"), box(0, 0, 110, 2, "thing")
    kept, skipped = order_regions([thing, sliver], PAPER)
    assert [(item.region.name, item.visible.area) for item in kept] == [("thing", 111)]
    assert [(item.region.name, item.area_visible) for item in skipped] == [("sliver", 109)]
    assert skipped[0].reason == "109 of 109 pixels visible, fewer than 110"


def test_the_limit_counts_what_is_left_not_what_there_was():
    kept, skipped = order_regions([box(0, 0, 20, 10), box(0, 0, 20, 15), box(50, 50, 11, 10)], PAPER)
    assert [item.region.bbox_xywh for item in kept] == [(50, 50, 11, 10), (0, 0, 20, 10)]
    assert [(item.area_visible, item.region.area) for item in skipped] == [(100, 300)]


def test_a_covered_region_is_skipped_and_equal_areas_keep_their_order():
    first, second = box(0, 0, 20, 20, "first"), box(0, 0, 20, 20, "second")
    kept, skipped = order_regions([first, second], PAPER)
    assert [item.region.name for item in kept] == ["first"]
    assert [(item.region.name, item.area_visible) for item in skipped] == [("second", 0)]


def test_nothing_to_order_and_mixed_images():
    assert order_regions([], PAPER) == ([], [])
    with pytest.raises(ValueError, match="different sizes"):
        order_regions([box(0, 0, 9, 9), Region.from_mask(np.ones((5, 5), bool))], PAPER)


def test_unknown_preset_names_the_closest():
    assert get_preset(PAPER) is PAPER
    with pytest.raises(ValueError, match=r"'papper'.*Did you mean 'paper'"):
        get_preset("papper")

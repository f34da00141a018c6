from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from llava_som.marks import PRESETS, Preset, Region, get_preset, order_regions

PAPER = PRESETS["paper"]


def box(x, y, width, height, name=None, score=None):
    return Region.from_box([x, y, width, height], (200, 200), name=name, score=score)


def with_fields(**fields):
    return dataclasses.replace(PAPER, **fields)


def names(items):
    return [item.region.name for item in items]


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


def test_paper_keeps_duplicates_and_all_that_are_large_enough():
    same = [box(10, 10, 30, 30, "a"), box(10, 10, 30, 31, "b"), box(0, 0, 200, 200, "all")]
    kept, skipped = order_regions(same + [box(x, 100, 11, 11) for x in range(0, 200, 8)], PAPER)
    assert len(kept) + len(skipped) == 28 and names(skipped).count("b") == 1 and "visible" in skipped[-1].reason


@pytest.mark.parametrize(
    ("scores", "kept_name"), [((None, None), "large"), ((0.9, 0.3), "small"), ((0.9, None), "large")], ids=str
)
def test_of_two_that_overlap_more_than_nms_iou_the_better_is_kept(scores, kept_name):
    pair = [box(10, 10, 50, 50, "small", scores[0]), box(10, 10, 50, 55, "large", scores[1])]
    kept, (duplicate,) = order_regions(pair, with_fields(nms_iou=0.9))
    assert names(kept) == [kept_name] and kept[0].visible.area == kept[0].region.area
    assert duplicate.reason == f"a duplicate of {kept[0].region.title}: IoU 0.91, more than 0.9"
    assert len(order_regions(pair, with_fields(nms_iou=0.92))[0]) == 2


def test_one_inside_another_of_nearly_its_area_is_a_duplicate_and_a_part_is_not():
    whole, nearly, part = box(0, 0, 100, 100, "whole"), box(2, 2, 90, 90, "nearly"), box(5, 5, 70, 70, "part")
    kept, skipped = order_regions([whole, nearly, part], with_fields(containment=0.9))
    assert names(kept) == ["part", "whole"] and names(skipped) == ["nearly"]
    assert "100% of the smaller inside, more than 90%" in skipped[0].reason
    assert kept[1].visible.area == 10000 - 4900, "what is left out carves nothing"


def test_masks_decide_and_not_their_boxes():
    stripes = np.zeros((2, 200, 200), bool)
    stripes[0, ::2], stripes[1, 1::2] = True, True
    kept, _ = order_regions([Region.from_mask(mask) for mask in stripes], with_fields(nms_iou=0.1, containment=0.1))
    assert len(kept) == 2


def test_shares_of_the_image_and_no_subtraction():
    regions = [
        box(0, 0, 20, 19, "380"),
        box(30, 0, 20, 20, "400"),
        box(0, 0, 200, 190, "most"),
        box(50, 50, 99, 99, "mid"),
    ]
    kept, skipped = order_regions(regions, with_fields(min_share=0.01, max_share=0.9, subtract=False))
    assert names(kept) == ["400", "mid"] and all(item.visible is item.region for item in kept)
    assert [item.reason for item in skipped] == [
        "380 of 380 pixels visible, fewer than 400",
        "covers 95.0% of the image, more than 90.0%",
    ]


@pytest.mark.parametrize(("scored", "expected"), [(True, ["a", "c"]), (False, ["b", "c"])])
def test_the_cap_keeps_the_best_in_order_of_area(scored, expected):
    sizes = {"a": (20, 0.5), "b": (30, 0.1), "c": (40, 0.9)}
    regions = [
        box(60 * k, 0, side, side, name, score if scored else None)
        for k, (name, (side, score)) in enumerate(sizes.items())
    ]
    kept, (surplus,) = order_regions(regions, with_fields(max_tags=2))
    assert names(kept) == expected
    better = "better or equal scores" if scored else "more pixels left"
    assert surplus.reason == f"no more than 2 tags: the others have {better}"
    assert len(order_regions(regions, with_fields(labels=("x",)))[0]) == 1, "no more tags than labels"


def test_hundreds_of_equal_masks_are_compared_with_the_one_kept():
    start = time.process_time()
    kept, skipped = order_regions([box(0, 0, 200, 200)] * 500, PRESETS["clear"])
    assert (len(kept), len(skipped)) == (1, 499) and time.process_time() - start < 2


def test_unknown_preset_names_the_closest():
    assert get_preset(PAPER) is PAPER
    with pytest.raises(ValueError, match=r"'papper'.*Did you mean 'paper'"):
        get_preset("papper")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"font_px": 0}, "font_px=0: at least 1 pixel"),
        ({"max_tags": 0}, "max_tags=0: at least 1"),
        ({"padding": -1}, "padding=-1"),
        ({"text_rgb": (0, 0, 256)}, "text_rgb=.*0 to 255"),
        ({"mask_opacity": 2}, "mask_opacity=2: 0 is invisible"),
        ({"nms_iou": 1.5}, "nms_iou=1.5: a share"),
        ({"tag_fit": -1}, "tag_fit=-1"),
        ({"draw": ()}, "nothing would be drawn"),
        ({"labels": ("a", "a")}, r"labels=\['a', 'a'\]: .*of its own"),
        ({"labels": ("a", " ")}, "not blank"),
        ({"palette": "okabe"}, "Did you mean 'okabe_ito'"),
        ({"palette": ("red",)}, r"palette=\['red'\]: colours look like '#e69f00'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        with_fields(**fields)


def test_a_palette_is_kept_as_its_colours():
    assert isinstance(PAPER, Preset) and PAPER.palette[0] == "#e69f00" and PAPER.colours[0] == (230, 159, 0)

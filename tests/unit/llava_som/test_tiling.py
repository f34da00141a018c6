import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_som.image_processing import plan_tiles
from llava_som.tiling import LISTED_GRIDS, SINGLE_TILE, TileGrid, Tiling

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "crop_grids.json").read_text())
SIDES = st.integers(1, 6000)


def reference_choice(width, height, grids, side):
    """The published scoring, written out in torch: integer boxes, so that the height of the scaled page is cut."""
    anchors = torch.tensor([[cols * side, rows * side] for rows, cols in grids])
    scaled = anchors.clone()
    scaled[:, 1] = height / width * anchors[:, 0]

    def iou(other):
        shared = torch.minimum(anchors, other).prod(dim=1)
        return shared / (anchors.prod(dim=1) + other.prod(dim=1) - shared + 1e-5)

    page = torch.tensor([width, height]).expand_as(anchors)
    return grids[int((100 * iou(scaled) + iou(page)).argmax())]


def rule(most):
    return [(rows, n // rows) for n in range(1, most + 1) for rows in range(1, n + 1) if n % rows == 0]


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: f"{case['width']}x{case['height']}")
def test_the_recorded_grids_are_chosen(case):
    for grids, side in (("grid_9", 448), ("grid_12", 504)):
        plan = plan_tiles(case["width"], case["height"], grids, side)
        assert [plan.rows, plan.cols] == case[f"{grids}_{side}"]


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, st.sampled_from([("grid_4", 224), ("grid_9", 448), ("grid_12", 504), ("grid_20", 224)]))
def test_every_page_gets_the_grid_of_the_published_scoring(width, height, family):
    name, side = family
    plan = plan_tiles(width, height, name, side)
    assert (plan.rows, plan.cols) == reference_choice(width, height, LISTED_GRIDS.get(name) or rule(12), side)


@pytest.mark.parametrize(
    ("name", "count", "most"), [("grid_1", 1, 1), ("grid_4", 8, 4), ("grid_9", 23, 9), ("grid_20", 48, 20)]
)
def test_listed_families_hold_what_their_authors_list(name, count, most):
    family = LISTED_GRIDS[name]
    assert len(family) == len(set(family)) == count
    assert max(map(math.prod, family)) == most
    if name != "grid_20":  # beyond 11 tiles it has no long strips
        assert set(family) == set(rule(most))
    else:
        assert set(family) < set(rule(20)) and (1, 11) in family and not {(1, 12), (1, 13), (19, 1)} & set(family)


def test_the_height_of_the_scaled_page_is_cut_to_whole_pixels():
    a4_at_150_dpi = plan_tiles(1240, 1754, "grid_12", 504)
    assert (a4_at_150_dpi.rows, a4_at_150_dpi.cols) == (4, 3)  # (3, 2) with real numbers


def test_extreme_pages_get_extreme_grids():
    assert plan_tiles(1, 1) == TileGrid(1, 1)
    assert plan_tiles(20_000, 100) == TileGrid(1, 9)
    assert plan_tiles(100, 20_000) == TileGrid(9, 1)


def test_a_limit_to_enlarging_keeps_small_pages_small():
    assert plan_tiles(640, 480, "grid_12", 504) == TileGrid(3, 4)
    assert plan_tiles(640, 480, "grid_12", 504, max_upscale=1.5) == TileGrid(1, 1)
    assert plan_tiles(10, 10, "grid_3x3", 504, max_upscale=1.5) == TileGrid(3, 3)  # the family has nothing smaller


def test_tiles_are_the_global_one_and_then_the_crops_row_by_row():
    assert list(TileGrid(2, 2).positions()) == [None, (0, 0), (0, 1), (1, 0), (1, 1)]
    assert TileGrid(2, 3).num_tiles == 7
    assert list(SINGLE_TILE.positions()) == [(0, 0)]


def test_a_family_of_ones_own():
    assert plan_tiles(1000, 3000, [[1, 1], [5, 2]]) == TileGrid(5, 2)
    assert Tiling.parse({"grids": [[1, 1], [5, 2]], "global_tile": False}).plan(1000, 3000, 448) == TileGrid(
        5, 2, False
    )
    assert Tiling.parse("grid_9").largest().num_tiles == 10
    assert Tiling(grids=[[1, 1], [5, 2]]).largest() == TileGrid(5, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grids": "grid_9x"}, "grid_N .*grid_RxC"),
        ({"grids": "grid_0"}, "at least one"),
        ({"grids": "grid_0x3"}, "each at least 1"),
        ({"grids": []}, "at least one"),
        ({"grids": [[2, 0]]}, "each at least 1"),
        ({"grids": [[1, 2, 3]]}, r"at least one \(rows, cols\)"),
        ({"grids": [1, 2]}, r"no family of \(rows, cols\)"),
        ({"width": 0}, "0x10 .* at least 1 pixel"),
        ({"tile_size": 0}, "tiles of 0"),
        ({"max_upscale": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_met_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        plan_tiles(**{"width": 10, "height": 10, **options})
    if options.keys() <= {"grids", "max_upscale"}:
        with pytest.raises(ValueError, match=message):
            Tiling.parse(options)


def test_an_unknown_option_names_the_closest():
    with pytest.raises(ValueError, match="Did you mean 'max_upscale'"):
        Tiling.parse({"max_upscal": 2})

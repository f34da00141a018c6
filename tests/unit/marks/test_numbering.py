from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from llava_som.marks import PRESETS, Region, mark_image

SIZE = (600, 400)
GRID = [(x, y, 60 + k, 40) for k, (x, y) in enumerate((x, y) for y in (20, 140, 260) for x in (20, 220, 420))]


def boxes_by_number(numbering, seed=0, boxes=GRID):
    preset = dataclasses.replace(PRESETS["clear"], numbering=numbering)
    record = mark_image(Image.new("RGB", SIZE), [Region.from_box(box, SIZE) for box in boxes], preset, seed).record
    assert [mark.id for mark in record.marks] == list(range(1, len(boxes) + 1))
    return [mark.bbox_xywh for mark in record.marks]


def test_area_counts_from_the_smallest():
    assert boxes_by_number("area", boxes=GRID[::-1]) == GRID


def test_reading_goes_along_lines_that_need_not_be_level():
    uneven = [(x, y + 5 * (-k % 3), 200 - 20 * k, 40) for k, (x, y, _, _) in enumerate(GRID)]
    uneven = [(x, y, min(width, 150), height) for x, y, width, height in uneven]
    assert boxes_by_number("reading", boxes=uneven) == uneven


def test_shuffled_is_decided_by_seed_and_geometry():
    orders = [boxes_by_number("shuffled", seed) for seed in range(5)]
    assert boxes_by_number("shuffled", 0, GRID[::-1]) == orders[0], "not by the order in which regions are given"
    assert len({tuple(order) for order in orders}) == 5 and all(sorted(order) == sorted(GRID) for order in orders)
    moved = [(x + 3, y, width, height) for x, y, width, height in GRID]
    assert [GRID.index(box) for box in orders[0]] != [moved.index(box) for box in boxes_by_number("shuffled", 0, moved)]


@pytest.mark.parametrize("numbering", ["area", "reading", "shuffled"])
def test_skipped_regions_take_no_number(numbering):
    rng = np.random.default_rng(0)
    boxes = [(*rng.integers(0, 360, 2).tolist(), 30, 30) for _ in range(120)]
    preset = dataclasses.replace(PRESETS["clear"], numbering=numbering, max_tags=None, nms_iou=None, containment=None)
    record = mark_image(Image.new("RGB", SIZE), [Region.from_box(box, SIZE) for box in boxes], preset).record
    assert len(record.marks) + len(record.skipped) == 120 and len(record.skipped) > 20
    assert [mark.label for mark in record.marks] == [str(number) for number in range(1, len(record.marks) + 1)]

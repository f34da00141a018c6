from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llava_som.marks import Region, encode_rle

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)).filter(lambda mask: mask.any())


@given(MASKS)
def test_crop_and_back(mask):
    region = Region.from_mask(mask, name="cat", id="7")
    assert np.array_equal(region.full_mask(), mask)
    assert region.area == mask.sum()
    assert region.mask[0].any() and region.mask[-1].any() and region.mask[:, 0].any() and region.mask[:, -1].any()
    assert np.array_equal(Region.from_rle(encode_rle(mask), name="cat").full_mask(), mask)


@given(MASKS, st.integers(1, 40), st.integers(1, 40))
def test_resizing_the_crop_is_resizing_the_mask(mask, width, height):
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height + 1e-9).astype(int)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width + 1e-9).astype(int)
    expected = mask[np.ix_(rows, columns)]
    resized = Region.from_mask(mask).resized((width, height))
    assert resized.image_size == (width, height)
    if expected.any():
        assert np.array_equal(resized.full_mask(), expected)
    else:
        assert resized.area == 1


def test_memory_is_that_of_the_crop_and_independent_of_the_source():
    mask = np.zeros((2160, 3840), np.uint8)
    mask[1000:1010, 2000:2020] = 255
    region = Region.from_mask(mask)
    assert region.mask.nbytes == 200 and region.mask.base is None
    mask[:] = 0
    assert region.area == 200
    with pytest.raises(ValueError, match="read-only"):
        region.mask[0, 0] = False


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([2, 3, 4, 5], (2, 3, 4, 5)),
        ([-3.2, -1, 5, 4], (0, 0, 2, 3)),
        ([7.6, 7.6, 0.1, 0.1], (8, 8, 1, 1)),
        ([1.4, 1.4, 3.2, 100], (1, 1, 4, 9)),
    ],
)
def test_boxes_are_rounded_and_cut_to_the_image(box, expected):
    region = Region.from_box(box, [12, 10], score=0.5)
    assert region.bbox_xywh == expected and region.area == expected[2] * expected[3]
    assert region.image_size == (12, 10) and region.score == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region.from_mask(np.zeros((4, 5), bool), name="cat", source="coco"), "'cat' .*coco.* empty"),
        (lambda: Region.from_mask(np.ones((4, 5, 1), bool)), r"\[4, 5, 1\]"),
        (lambda: Region.from_mask(np.ones((4, 5))), "float64.*threshold"),
        (lambda: Region(3, 0, np.ones((4, 5), bool), (7, 9)), "outside its image of 7x9"),
        (lambda: Region(-1, 0, np.ones((4, 5), bool), (7, 9)), "outside its image"),
        (lambda: Region.from_box([20, 0, 5, 5], (10, 10)), "outside its image of 10x10"),
        (lambda: Region.from_box([0, 0, 0, 5], (10, 10)), "positive width"),
        (lambda: Region.from_box([0, 0, float("nan"), 5], (10, 10)), "positive width"),
    ],
)
def test_bad_regions_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()

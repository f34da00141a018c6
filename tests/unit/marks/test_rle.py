from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from llava_som.marks import decode_rle, encode_rle

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.booleans())


@given(MASKS)
def test_same_string_as_pycocotools_and_back(mask):
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": list(theirs["size"]), "counts": theirs["counts"].decode()}
    assert np.array_equal(decode_rle(ours), mask)


@given(MASKS, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_crop_encodes_like_its_image(mask, left, top, right, bottom):
    image = np.pad(mask, [(top, bottom), (left, right)])
    assert encode_rle(mask, left, top, image.shape[::-1]) == encode_rle(image)


@pytest.mark.parametrize("shape", [(640, 853), (2160, 3840)])
def test_long_runs_take_several_groups(shape):
    mask = np.random.default_rng(0).random(shape) > 0.999
    mask[: shape[0] // 2] = True
    mask[:, shape[1] // 3 : shape[1] // 2] = True
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert encode_rle(mask)["counts"] == theirs.decode()
    assert np.array_equal(decode_rle({"size": list(shape), "counts": theirs}), mask)


def test_plain_counts():
    assert decode_rle({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize("counts", ["", "5", "!!", "o", "日", [1, 2], [7, -1], "o" * 40 + "0"])
def test_damage_is_named(counts):
    with pytest.raises(ValueError, match="Damaged RLE"):
        decode_rle({"size": [2, 3], "counts": counts})

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from llava_som.marks import Region
from llava_som.marks.paint import paint_regions


def painted_one_by_one(pixels, regions, colours, opacity, width):
    """Each region on its own, the largest first: what the map of regions has to come to."""
    owner = np.zeros(pixels.shape[:2], int)
    for place in sorted(range(len(regions)), key=lambda place: -regions[place].area):
        owner[regions[place].full_mask()] = place + 1
    expected = pixels.astype(float)
    for number, colour in enumerate(colours, start=1):
        inside = owner == number
        if opacity is not None:
            expected[inside] += (np.array(colour) - expected[inside]) * opacity
        if width is not None:
            window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
            core = cv2.erode(inside.astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            expected[inside & (core == 0)] = colour
    return expected


@pytest.mark.parametrize("count", [12, 300], ids=["a few", "more than a byte counts"])
@pytest.mark.parametrize(("opacity", "width"), [(0.4, None), (None, 3), (0.7, 2)])
def test_one_blend_equals_one_for_each_region(count, opacity, width):
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (300, 260, 3), dtype=np.uint8)
    sides = (20, 120) if count < 100 else (6, 40)
    boxes = [(*rng.integers(-5, (250, 290)).tolist(), *rng.integers(*sides, 2).tolist()) for _ in range(count)]
    regions = [Region.from_box(box, (260, 300)) for box in boxes if box[0] + box[2] > 0 and box[1] + box[3] > 0]
    colours = [tuple(colour) for colour in rng.integers(0, 256, (len(regions), 3)).tolist()]
    image = Image.fromarray(pixels)
    paint_regions(image, regions, colours, opacity, width)
    expected = painted_one_by_one(pixels, regions, colours, opacity, width)
    assert np.abs(np.asarray(image) - expected).max() <= 1.5

"""How long the tagger's drawing path takes (order, place, draw; no segmentation), beside the way published tools draw.

The baseline is written from the description of SoM-LLaVA's drawing: whole-image masks, one padded distance transform of
the whole image per mask, a matplotlib figure at 100 dpi with one boxed text per number. Both get the same 30 masks on
an 853x640 picture and must put every number on the same pixel, or the comparison is refused.

    python scripts/bench.py marks
"""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measure import interleaved_ms
from PIL import Image

from llava_som.marks import Region, get_preset, mark_image, order_regions, place_marks, render_marks

WIDTH, HEIGHT, MASKS = 853, 640, 30
TARGET_MS = 30.0
Point = tuple[int, int]


def scene() -> tuple[Image.Image, list[np.ndarray]]:
    """A noisy picture and 30 overlapping masks like a segmenter's: floor, wall, large, middle and small things."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    masks = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(MASKS)]
    masks[0][: HEIGHT // 2] = 1
    masks[1][HEIGHT // 2 :] = 1
    for index, mask in enumerate(masks[2:]):
        longest = 200 if index < 4 else 90 if index < 14 else 35
        axes = rng.integers(longest // 3, longest, 2).tolist()
        centre = (int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT)))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    return Image.fromarray(pixels), [mask.astype(bool) for mask in masks]


def draw(image: Image.Image, regions: list[Region]) -> list[Point]:
    """Our path; returns the points the numbers sit on."""
    preset = get_preset("paper")
    kept, _ = order_regions(regions, preset)
    marks = place_marks(kept, preset)
    render_marks(image, marks, preset)
    return [mark.point_xy for mark in marks]


def draw_published(image: Image.Image, masks: list[np.ndarray]) -> list[Point]:
    """The published tools' path, as described; returns the points the numbers sit on."""
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, frameon=False)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.imshow(np.asarray(image), extent=(0, WIDTH, HEIGHT, 0), interpolation="nearest")
    taken = np.zeros((HEIGHT, WIDTH), bool)
    points: list[Point] = []
    for mask in sorted(masks, key=lambda mask: mask.sum()):
        visible = mask & ~taken
        taken = taken | mask
        if visible.sum() < 110:
            continue
        padded = np.pad(visible.astype(np.uint8), 1)
        depth = np.rint(np.square(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)))[1:-1, 1:-1]
        rows, columns = np.where(depth == depth.max())
        row, column = int(rows[len(rows) // 2]), int(columns[len(columns) // 2])
        points.append((column, row))
        box = {"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"}
        where = (column + 2, row - 6)
        axes.text(*where, str(len(points)), size=18, color="white", va="top", ha="center", bbox=box, zorder=10)
    canvas.draw()
    np.asarray(canvas.buffer_rgba())
    return points


def run(repeats: int = 15) -> dict:
    """Both paths, and the whole `mark_image` call with its resizing and record."""
    image, masks = scene()
    regions = [Region.from_mask(mask) for mask in masks]
    if draw(image, regions) != draw_published(image, masks):
        raise RuntimeError("The two paths place the numbers differently, so their times cannot be compared.")
    ms = interleaved_ms(
        {
            "draw": lambda: draw(image, regions),
            "mark_image": lambda: mark_image(image, regions),
            "published_way": lambda: draw_published(image, masks),
        },
        repeats,
    )
    return {
        "image": [WIDTH, HEIGHT],
        "masks": MASKS,
        "marks_drawn": len(draw(image, regions)),
        "repeats": repeats,
        "ms": ms,
        "target_draw_ms": TARGET_MS,
        "within_target": ms["draw"] <= TARGET_MS,
        "published_way_over_draw": round(ms["published_way"] / ms["draw"], 1),
    }

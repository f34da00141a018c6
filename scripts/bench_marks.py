"""How long the tagger's drawing path takes (order, place, draw; no segmentation), beside the way published tools draw.

The baseline is written from the description of SoM-LLaVA's drawing: whole-image masks, one padded distance transform of
the whole image per mask, a matplotlib figure at 100 dpi with one boxed text per number. Both get the same 30 masks on
an 853x640 picture and must put every number on the same pixel, or the comparison is refused.

    python scripts/bench_marks.py --repeats 21 --out marks_bench.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import PIL
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
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
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        rows, columns = np.where(depth == depth.max())
        row, column = int(rows[len(rows) // 2]), int(columns[len(columns) // 2])
        points.append((column, row))
        box = {"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"}
        where = (column + 2, row - 6)
        axes.text(*where, str(len(points)), size=18, color="white", va="top", ha="center", bbox=box, zorder=10)
    canvas.draw()
    np.asarray(canvas.buffer_rgba())
    return points


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median wall-clock milliseconds of a call, after one call to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times), 2)


def run(repeats: int = 21) -> dict:
    """Measure both paths and the whole `mark_image` call (with resize check and record); returns what to write down."""
    image, masks = scene()
    regions = [Region.from_mask(mask) for mask in masks]
    if draw(image, regions) != draw_published(image, masks):
        raise RuntimeError("The two paths place the numbers differently, so their times cannot be compared.")
    ours = median_ms(lambda: draw(image, regions), repeats)
    published = median_ms(lambda: draw_published(image, masks), max(3, repeats // 4))
    return {
        "benchmark": "marks",
        "command": " ".join(["python", *sys.argv]),
        "image": [WIDTH, HEIGHT],
        "masks": MASKS,
        "marks_drawn": len(draw(image, regions)),
        "repeats": repeats,
        "draw_ms": ours,
        "target_ms": TARGET_MS,
        "within_target": ours <= TARGET_MS,
        "mark_image_ms": median_ms(lambda: mark_image(image, regions), repeats),
        "published_way_ms": published,
        "ratio": round(published / ours, 1),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (np, cv2, PIL, matplotlib)},
        },
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def main() -> None:
    """Print the measurement as JSON, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, help="timed calls of our path (default 21)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    text = json.dumps(run(arguments.repeats), indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

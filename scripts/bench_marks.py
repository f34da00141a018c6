"""How long drawing marks takes (order, place, draw; no segmentation), beside the way published tools draw.

The first baseline is written from the description of SoM-LLaVA's drawing: whole-image masks, one padded distance
transform of the whole image per mask, a matplotlib figure at 100 dpi with one boxed text per number; with masks, filled
polygons with an edge, and a layer of pixels for masks with holes. Both get the same 30 masks on an 853x640 picture and
must put every number on the same pixel, or the comparison is refused. The second is supervision's MaskAnnotator and
LabelAnnotator(smart_position=True) on the same masks, once with the labels on the things (at their centre of mass,
which it computes from the masks as we compute the deepest pixel) and once at the centres of their boxes, which takes no
look at the masks and may lie on something else. A tool is used on one picture after another, so each call draws six
different pictures in a row, and the calls take turns: all meet the same drifts of the machine, and none has another's
data in its caches for more than its first picture. Then: time per mask up to 500 masks, and a 4K picture in a process
of its own, with its peak memory.

    python scripts/bench.py marks
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from measure import interleaved_ms
from PIL import Image

from llava_som.marks import PRESETS, Preset, Region, mark_image, order_regions, place_marks, render_marks

WIDTH, HEIGHT, MASKS = 853, 640, 30
PICTURES = 6
COUNTS = (10, 20, 50, 100, 200, 500)
TARGETS = {"published_over_ours": 25, "supervision_over_ours": 10, "4k_seconds": 0.5, "4k_peak_mb": 400}
PAPER = PRESETS["paper"]
PAPER_MASKS = dataclasses.replace(PAPER, draw=("mark", "mask", "boundary"), line_width=1)
PAPER_FILLED = dataclasses.replace(PAPER, draw=("mark", "mask"))  # what supervision draws: no boundary
CLEAR = dataclasses.replace(PRESETS["clear"], max_tags=None)  # no cap: the same number of tags to draw
CLEAR_MASKS = dataclasses.replace(CLEAR, draw=("mark", "mask", "boundary"))
Point = tuple[int, int]


def scene(seed: int) -> tuple[Image.Image, list[np.ndarray]]:
    """A noisy picture and 30 overlapping masks like a segmenter's: floor, wall, large, middle and small things."""
    rng = np.random.default_rng(seed)
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


def scattered(size: tuple[int, int], count: int, axes: tuple[int, int]) -> tuple[Image.Image, list[Region]]:
    """A noisy picture and `count` ellipses of one kind, anywhere: twice as many are twice the work."""
    rng = np.random.default_rng(count)
    regions = []
    for _ in range(count):
        mask = np.zeros(size[::-1], np.uint8)
        centre = (int(rng.integers(0, size[0])), int(rng.integers(0, size[1])))
        cv2.ellipse(mask, centre, rng.integers(*axes, 2).tolist(), float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
        regions.append(Region.from_mask(mask))
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)), regions


def draw(image: Image.Image, regions: list[Region], preset: Preset) -> list[Point]:
    """Our path; returns the points the numbers sit on."""
    kept, _ = order_regions(regions, preset)
    marks, _ = place_marks(kept, preset)
    render_marks(image, marks, preset)
    return [mark.point_xy for mark in marks]


def draw_published(image: Image.Image, masks: list[np.ndarray], with_masks: bool) -> list[Point]:
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
        if visible.sum() < PAPER.min_area:
            continue
        padded = np.pad(visible.astype(np.uint8), 1)
        depth = np.rint(np.square(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)))[1:-1, 1:-1]
        rows, columns = np.where(depth == depth.max())
        row, column = int(rows[len(rows) // 2]), int(columns[len(columns) // 2])
        points.append((column, row))
        if with_masks:
            colour = tuple(part / 255 for part in PAPER.colours[(len(points) - 1) % len(PAPER.colours)])
            _fill_published(axes, visible, colour)
        box = {"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"}
        where = (column + 2, row - 6)
        axes.text(*where, str(len(points)), size=18, color="white", va="top", ha="center", bbox=box, zorder=10)
    canvas.draw()
    np.asarray(canvas.buffer_rgba())
    return points


def _fill_published(axes: object, mask: np.ndarray, colour: tuple[float, ...]) -> None:
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if (hierarchy[0, :, 3] >= 0).any():
        layer = np.zeros((HEIGHT, WIDTH, 4))
        layer[mask] = (*colour, PAPER.mask_opacity)
        axes.imshow(layer, extent=(0, WIDTH, HEIGHT, 0), interpolation="nearest")
        return
    for contour in contours:
        if cv2.contourArea(contour) >= 10:
            style = {"facecolor": (*colour, PAPER.mask_opacity), "edgecolor": (*colour, 1.0), "linewidth": 1}
            axes.add_patch(Polygon(contour.reshape(-1, 2), closed=True, fill=True, **style))


def supervision_drawing(
    image: Image.Image, masks: list[np.ndarray], position: str, with_masks: bool
) -> Callable[[], object]:
    """A call that draws the same masks and numbers with supervision, its annotators and detections made before."""
    import supervision as sv

    picture, stacked = np.asarray(image), np.stack(masks)
    numbers = np.arange(len(masks))
    found = sv.Detections(xyxy=sv.mask_to_xyxy(stacked).astype(float), mask=stacked, class_id=numbers)
    annotators = [sv.MaskAnnotator(color_lookup=sv.ColorLookup.INDEX)] if with_masks else []
    labels = sv.LabelAnnotator(smart_position=True, text_position=sv.Position[position])

    def annotate() -> np.ndarray:
        drawn = picture.copy()
        for annotator in annotators:
            drawn = annotator.annotate(drawn, found)
        return labels.annotate(drawn, found, [str(number + 1) for number in numbers])

    return annotate


def linearity() -> dict[str, dict[str, float]]:
    """Milliseconds per mask at several numbers of masks, all of one kind and on one picture size.

    With small tags, so that `clear` finds room for nearly all of them.
    """
    small = {preset.name: dataclasses.replace(preset, short_side=1200, font_px=14) for preset in (PAPER, CLEAR)}
    scenes = {count: scattered((1600, 1200), count, (12, 60)) for count in COUNTS}
    calls = {
        f"{name} {count}": (lambda preset=preset, scene=scene: draw(*scene, preset))
        for name, preset in small.items()
        for count, scene in scenes.items()
    }
    ms = interleaved_ms(calls, repeats=5)
    return {name: {str(count): round(ms[f"{name} {count}"] / count, 4) for count in COUNTS} for name in small}


def four_k() -> dict[str, float]:
    """Seconds for one 3840x2160 picture with 200 masks, and the peak memory of this process so far."""
    image, regions = scattered((3840, 2160), 200, (30, 400))
    seconds = {}
    for preset in (dataclasses.replace(PAPER, short_side=2160), CLEAR, CLEAR_MASKS):
        name = preset.name if preset.draw == ("mark",) else f"{preset.name} with masks"
        start = time.perf_counter()
        draw(image, regions, preset)
        seconds[name] = round(time.perf_counter() - start, 3)
    megapixels = round(sum(region.mask.size for region in regions) / 1e6, 1)
    return {"masks": 200, "mask_megapixels": megapixels, "seconds": seconds, "peak_mb": _peak_mb()}


def _peak_mb() -> int:
    """Peak memory of this process. Not from `getrusage`, which counts the parent's peak in a child process."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def run(repeats: int = 7) -> dict:
    """All of it, and the whole `mark_image` call with its resizing and record. Milliseconds are of one picture."""
    scenes = [scene(seed) for seed in range(PICTURES)]
    ours = [(image, [Region.from_mask(mask) for mask in masks]) for image, masks in scenes]
    numbers = [draw(*picture, PAPER) for picture in ours]
    if numbers != [draw_published(*picture, with_masks=False) for picture in scenes]:
        raise RuntimeError("The two paths place the numbers differently, so their times cannot be compared.")

    def supervision(position: str, with_masks: bool) -> Callable[[], object]:
        calls = [supervision_drawing(*picture, position, with_masks) for picture in scenes]
        return lambda: [call() for call in calls]

    six = interleaved_ms(
        {
            "marks": lambda: [draw(*picture, PAPER) for picture in ours],
            "marks_and_masks": lambda: [draw(*picture, PAPER_MASKS) for picture in ours],
            "marks_and_filled_masks": lambda: [draw(*picture, PAPER_FILLED) for picture in ours],
            "clear_marks": lambda: [draw(*picture, CLEAR) for picture in ours],
            "clear_marks_and_masks": lambda: [draw(*picture, CLEAR_MASKS) for picture in ours],
            "mark_image": lambda: [mark_image(*picture, PAPER) for picture in ours],
            "published_marks": lambda: [draw_published(*picture, with_masks=False) for picture in scenes],
            "published_marks_and_masks": lambda: [draw_published(*picture, with_masks=True) for picture in scenes],
            "supervision_marks": supervision("CENTER_OF_MASS", with_masks=False),
            "supervision_marks_and_filled_masks": supervision("CENTER_OF_MASS", with_masks=True),
            "supervision_box_labels_and_filled_masks": supervision("CENTER", with_masks=True),
        },
        repeats,
    )
    ms = {name: round(value / PICTURES, 3) for name, value in six.items()}
    of_4k = subprocess.run(
        [sys.executable, "-c", "import bench_marks, json; print(json.dumps(bench_marks.four_k()))"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "image": [WIDTH, HEIGHT],
        "masks": MASKS,
        "pictures": PICTURES,
        "marks_drawn": len(numbers[0]),
        "repeats": repeats,
        "ms": ms,
        "published_over_ours": {
            "marks": round(ms["published_marks"] / ms["marks"], 1),
            "marks_and_masks": round(ms["published_marks_and_masks"] / ms["marks_and_masks"], 1),
        },
        "supervision_over_ours": {
            kind: round(ms[f"supervision_{theirs}"] / ms[ours], 1)
            for kind, theirs, ours in (
                ("marks", "marks", "marks"),
                ("marks_and_filled_masks", "marks_and_filled_masks", "marks_and_filled_masks"),
                ("box_labels_and_filled_masks", "box_labels_and_filled_masks", "marks_and_filled_masks"),
            )
        },
        "ms_per_mask": linearity(),
        "4k": json.loads(of_4k.stdout),
        "targets": TARGETS,
    }

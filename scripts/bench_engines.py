"""How fast the engines carry the same 2,000 images, start-up excluded: two processes, and Ray with two workers.

The work is real (scenes are drawn, marked, listed, written to disk). The clock starts when a tenth of the images has
come through, so neither the start of processes nor that of a cluster counts.

    python scripts/bench.py engines
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from data_gen.config import plan_run

IMAGES, WORKERS = 2000, 2
TARGET = 0.7


def images_per_second(engine: str, folder: Path, images: int) -> float:
    """Throughput of one engine, once it is under way."""
    out = folder / engine
    options = {"source": "scenes", "count": images, "size": 320, "layout": "free", "objects": [4, 12]}
    run = plan_run({**options, "engine": engine, "workers": WORKERS, "out": out})
    out.mkdir()
    arrivals = [time.perf_counter() for _ in run.engine.entries(run, run.source.refs())]
    if len(arrivals) != images or len(list((out / "images").glob("*.png"))) != images:
        raise RuntimeError(f"engine={engine} returned {len(arrivals)} of {images} images; its speed means nothing.")
    warm = images // 10
    return (images - warm) / (arrivals[-1] - arrivals[warm - 1])


def run(images: int = IMAGES) -> dict:
    """Both engines in turn, twice; the better of each, because other work on the machine only ever slows."""
    rates: dict[str, list[float]] = {"processes": [], "ray": []}
    for _ in range(2):
        for engine, found in rates.items():
            with TemporaryDirectory() as folder:
                found.append(images_per_second(engine, Path(folder), images))
    best = {engine: round(max(found), 1) for engine, found in rates.items()}
    ratio = round(best["ray"] / best["processes"], 3)
    every = {engine: [round(rate, 1) for rate in found] for engine, found in rates.items()}
    return {
        "images": images,
        "workers": WORKERS,
        "images_per_second": best,
        "all_runs": every,
        "ray_over_processes": ratio,
        "target_ratio": TARGET,
        "within_target": ratio >= TARGET,
    }

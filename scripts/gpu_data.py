"""What a GPU changes about making data: the sources and the annotator that hold a model, on the device against the CPU.

Tiny checkpoints with random weights, the builders of the tests: what is checked is that the same regions and answers
come out, not that they are good.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `tests` is a name in site-packages too
LEAST_AGREEMENT = 0.98  # of pixels; random weights put many of them close to a threshold


def check_data_models(device: str) -> dict[str, Any]:
    """Each model source and the local annotator: share of pixels, and of answers, that are as on the CPU."""
    from tests.unit.data_gen.tiny_segmenters import MODEL_SOURCES

    try:
        with TemporaryDirectory() as scratch:
            found = {name: source_agreement(name, Path(scratch) / name, device) for name in MODEL_SOURCES}
            return {**found, "local_model": annotator_agreement(Path(scratch), device)}
    except ModuleNotFoundError as error:
        return {"not_run": f"a package is missing ({error})"}


def source_agreement(name: str, folder: Path, device: str) -> dict[str, Any]:
    """How far the regions of one source agree, for a drawn scene of its own."""
    from data_gen.config import build
    from data_gen.sources import SOURCES
    from data_gen.sources.scenes import SceneSource
    from tests.unit.data_gen.tiny_segmenters import MODEL_SOURCES

    scenes = SceneSource(count=1, size=160, objects=(4, 4))
    (folder / "images").mkdir(parents=True)
    scenes.load(scenes.refs()[0]).save(folder / "images" / "scene.png")
    options = MODEL_SOURCES[name](folder) | {"images": folder / "images"}
    maps, counts = [], []
    for place in ("cpu", device):
        source = build(SOURCES.get(name), {**options, "device": place})
        (ref,) = source.refs()
        regions = source.regions(ref, source.load(ref))
        maps.append(np.sum([region.full_mask() for region in regions], axis=0))
        counts.append(len(regions))
    agreement = float(np.mean(maps[0] == maps[1]))
    return {"regions": counts, "pixels_that_agree": round(agreement, 4), "ok": agreement >= LEAST_AGREEMENT}


def annotator_agreement(folder: Path, device: str) -> dict[str, Any]:
    """How many greedy answers of a tiny model, in float32, are the same."""
    from data_gen.annotators.local_model import LocalModelAnnotator
    from data_gen.requests import EncodedImage, Message, Request
    from tests.tiny import drawn_image, tiny_model

    for part in tiny_model():
        part.save_pretrained(folder / "model")
    requests = [
        Request(image=EncodedImage.of(drawn_image(k), ".png"), messages=(Message("user", "What is it?"),), max_tokens=8)
        for k in range(8)
    ]
    said = [
        [
            str(result)
            for result in LocalModelAnnotator(model=str(folder / "model"), device=place, dtype="float32").answer(
                requests
            )
        ]
        for place in ("cpu", device)
    ]
    same = sum(one == other for one, other in zip(*said, strict=True))
    return {"answers": len(requests), "same": same, "ok": same >= len(requests) - 1}

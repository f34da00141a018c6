"""Driving recipes by hand, annotators that answer from a list, and tagged pictures to ask about."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
from PIL import Image

from data_gen.requests import Answer, EncodedImage, Rejected, Tagged
from llava_som.marks import PRESETS, Region, mark_image
from tests.unit.data_gen.inputs import voc

SIDE = 320


def preset(**changes):
    return replace(PRESETS["paper"], short_side=SIDE, font_px=12, min_area=16, **changes)


def tagged(regions: Sequence[Region], image: Image.Image | None = None, **changes) -> Tagged:
    image = image or Image.new("RGB", (SIDE, SIDE), "gray")
    marked = mark_image(image, regions, preset(**changes))
    file = io.BytesIO()
    marked.image.save(file, "PNG")
    return Tagged("x", EncodedImage(file.getvalue(), "image/png"), marked.record)


def boxes(names: Sequence[str | None], attributes: Sequence[Sequence[str]] = (), **changes) -> Tagged:
    """Boxes in a row from the left, each a little larger than the one before, so mark 1 is the leftmost."""
    step = SIDE // len(names)
    sizes = np.linspace(0.4 * step, 0.8 * step, len(names))
    regions = [
        Region.from_box((k * step, 20, size, size), (SIDE, SIDE), name=name, attributes=tuple(words))
        for k, (name, size, words) in enumerate(zip(names, sizes, [*attributes] or [()] * len(names), strict=True))
    ]
    return tagged(regions, **changes)


def scattered(seed: int, names: Sequence[str], attributes: Sequence[str] = (), count: int = 8) -> Tagged:
    """Ellipses and boxes anywhere, named and described at random."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    regions = []
    for _ in range(count):
        (x, y), (width, height) = rng.uniform(30, SIDE - 30, 2), rng.uniform(12, 60, 2)
        u, v = np.abs(columns - x) / width, np.abs(rows - y) / height
        mask = (u**2 + v**2 < 1) if rng.random() < 0.5 else (np.maximum(u, v) < 1)
        words = (str(rng.choice(attributes)),) if attributes and rng.random() < 0.9 else ()
        regions.append(Region.from_mask(mask, name=str(rng.choice(names)), attributes=words))
    return tagged(regions)


def voc_photo(**changes) -> Tagged:
    rgb, masks, names = voc()
    regions = [Region.from_mask(mask, name=name) for mask, name in zip(masks, names, strict=True)]
    return tagged(regions, Image.fromarray(rgb), **changes)


class Script:
    """An annotator that gives the next of its answers, whatever is asked, and keeps the requests."""

    def __init__(self, *answers: str | Rejected) -> None:
        self.answers, self.requests = list(answers), []

    def answer(self, requests):
        self.requests += requests
        return [
            said if isinstance(said, Rejected) else Answer(said) for said in [self.answers.pop(0) for _ in requests]
        ]


def converse(recipe, tagged: Tagged, annotator, seed: int = 0):
    """The turns of a recipe, driven as the pipeline does."""
    conversation = recipe.conversation(tagged, Random(seed))
    try:
        request = next(conversation)
        while True:
            (answer,) = annotator.answer([request])
            request = conversation.throw(answer) if isinstance(answer, Rejected) else conversation.send(answer)
    except StopIteration as finished:
        return finished.value

"""Five pictures of two to four coloured boxes, marked, with and without their marks, as data_gen writes them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

from llava_som.marks import Region, mark_image

NAMES = ("red circle", "blue square", "green cross", "white star")
BOXES = ((10, 10, 40, 30), (80, 20, 50, 50), (20, 70, 60, 60), (100, 80, 80, 70))


def write(folder: Path, images: int = 5) -> Path:
    """Write the set into `folder`; returns what data= names."""
    (folder / "clean").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(images):
        image = Image.new("RGB", (200, 160), (40 * number % 256, 90, 120))
        things = list(zip(BOXES, NAMES, strict=True))[: 2 + number % 3]
        for (x, y, width, height), name in things:
            ImageDraw.Draw(image).rectangle([x, y, x + width, y + height], fill=name.split()[0])
        image.save(folder / f"clean/{number}.png")
        regions = [Region.from_box(box, image.size, name=name) for box, name in things]
        mark_image(image, regions).save(folder / f"{number}.png")
        paths = {"image": f"{number}.png", "clean_image": f"clean/{number}.png", "sidecar": f"{number}.marks.json"}
        rows.append({"id": str(number), **paths})
    file = folder / "eval.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file

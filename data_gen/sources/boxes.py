"""Regions from a JSON of boxes, as any detector writes them: the box itself is the region.

{"kitchen.jpg": [{"bbox": [x, y, width, height], "name": "cup", "score": 0.9}]}      or
[{"image": "kitchen.jpg", "boxes": [{"bbox": [...], "name": "cup"}]}]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import AnnotatedSource, ImageRef
from llava_som.marks.region import Region


@SOURCES.register("boxes")
@dataclass(frozen=True, kw_only=True)
class BoxSource(AnnotatedSource):
    """A JSON of boxes in pixels: {"image.jpg": [{"bbox": [x, y, w, h], "name": ...}]}."""

    def entries(self, content: Any) -> dict[str, tuple[Any, ...]]:
        """Image file name -> its boxes; both forms of the file. Rows of one image are joined."""
        try:
            pairs = content.items() if isinstance(content, dict) else [(row["image"], row["boxes"]) for row in content]
            found: dict[str, tuple[Any, ...]] = {}
            for file, boxes in pairs:
                found[file] = (*found.get(file, ()), *map(checked_box, boxes))
            return found
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.annotations}: is not a file of boxes ({error!r}). "
                'Write {"image.jpg": [{"bbox": [x, y, w, h], "name": "cup"}]}.'
            ) from None

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """One region for each box, in the order of the file."""
        return [
            Region.from_box(
                box["bbox"], image.size, name=box["name"], score=box["score"], source="boxes", id=str(index)
            )
            for index, box in enumerate(ref.annotations)
        ]


def checked_box(box: dict[str, Any]) -> dict[str, Any]:
    """A box of the file with numbers where numbers belong and a text for a name; KeyError, TypeError or ValueError."""
    name, score = box.get("name"), box.get("score")
    if not isinstance(name, str | None):
        raise TypeError(f"name {name!r} is not a text")
    return {"bbox": tuple(map(float, box["bbox"])), "name": name, "score": None if score is None else float(score)}

"""Regions from a COCO annotation file: instances (polygons, RLE) or panoptic (JSON + PNGs), told apart by content.

Format: https://cocodataset.org/#format-data. A crowd annotation marks no single object, so it gets no number; but it is
kept as something that is there: "the person" would be false beside a crowd of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import FARTHEST, UNREADABLE, AnnotatedSource, ImageRef
from data_gen.sources.polygons import polygon_mask
from llava_som.config_file import option
from llava_som.images import ImageError, open_image
from llava_som.marks.region import Region, RegionInfo
from llava_som.marks.rle import Rle, decode_rle

Size = tuple[int, int]

# COCO's panoptic names carry bookkeeping ("wall-other-merged"); people do not.
STUFF_NAMES = {
    "floor-wood": "wooden floor",
    "wall-brick": "brick wall",
    "wall-stone": "stone wall",
    "wall-tile": "tiled wall",
    "wall-wood": "wooden wall",
}
BOOKKEEPING = {"merged", "other", "stuff"}
CROWD = "a crowd, no single object"


@dataclass(frozen=True)
class InstanceAnnotation:
    """One object of an instances file: polygons, an RLE, or only a box."""

    id: str
    name: str
    segmentation: Any
    bbox: tuple[float, ...]
    image_size: Size | None
    unfit: str = ""

    def regions(self, size: Size) -> list[Region]:
        """The one region, as a list."""
        facts: RegionInfo = {"name": self.name, "source": "coco", "id": self.id, "unfit": self.unfit}
        if self.image_size and self.image_size != size:
            annotated, found = ("x".join(map(str, pair)) for pair in (self.image_size, size))
            raise ValueError(f"annotated at {annotated}, but the image is {found}: not the file that was annotated.")
        try:
            if self.segmentation:
                return [Region.from_mask(segmentation_mask(self.segmentation, size), **facts)]
            if not self.bbox:
                raise ValueError("has neither a segmentation nor a bbox. Remove it from the file.")
            return [Region.from_box(self.bbox, size, **facts)]
        except UNREADABLE as error:
            raise ValueError(f"annotation {self.id} ({self.name}): {error}") from None


@dataclass(frozen=True)
class PanopticAnnotation:
    """All segments of one image: a PNG whose pixels are segment ids (R + 256 G + 256² B), and what each id is."""

    folder: Path
    file: str
    names: dict[int, str]
    crowds: frozenset[int] = frozenset()

    def regions(self, size: Size) -> list[Region]:
        """One region for each segment, in the order of the file."""
        ids = read_segment_ids(self.file, self.folder)
        if ids.shape[::-1] != size:
            raise ValueError(f"{self.file}: is {ids.shape[1]}x{ids.shape[0]}, its image is {size[0]}x{size[1]}.")
        missing = sorted(self.names.keys() - self.crowds - set(np.unique(ids).tolist()))
        if missing:
            raise ValueError(
                f"{self.file}: has no pixel of segment {missing[0]}. The PNG and the JSON do not belong together."
            )
        return [
            Region.from_mask(mask, name=name, source="coco", id=str(segment), unfit=CROWD * (segment in self.crowds))
            for segment, name in self.names.items()
            if (mask := ids == segment).any()
        ]


@SOURCES.register("coco")
@dataclass(frozen=True, kw_only=True)
class CocoSource(AnnotatedSource):
    """A COCO annotation file, instances or panoptic, with its class names."""

    panoptic_images: Path | None = option(
        None, help="folder of the panoptic PNGs; by default the JSON's name without .json"
    )

    def entries(self, content: Any) -> dict[str, tuple[Any, ...]]:
        """Image file name -> its annotations, both kinds of file."""
        if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
            raise ValueError(
                f"{self.annotations}: is not a COCO file, which has the keys images, annotations and categories."
            )
        try:
            classes = {category["id"]: str(category["name"]) for category in content["categories"]}
            images = {image["id"]: image for image in content["images"]}
            found: dict[str, list[Any]] = {image["file_name"]: [] for image in content["images"]}
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{self.annotations}: every image needs id and file_name, every category id and name ({error!r})."
            ) from None
        if not isinstance(content["annotations"], list | None):
            raise ValueError(f"{self.annotations}: `annotations` has to be a list.")
        for number, annotation in enumerate(content["annotations"] or ()):
            try:
                image = images[annotation["image_id"]]
                found[image["file_name"]] += self._read(annotation, image, classes)
            except UNREADABLE as error:
                raise ValueError(
                    f"{self.annotations}: annotation number {number} lacks a key, or names an image or category that "
                    f"the file does not have ({error!r})."
                ) from None
        return {file: tuple(annotations) for file, annotations in found.items()}

    def _read(self, annotation: dict[str, Any], image: dict[str, Any], classes: dict[int, str]) -> list[Any]:
        if "segments_info" in annotation:
            folder = self.panoptic_images or self.annotations.with_suffix("")
            segments = annotation["segments_info"]
            names = {int(segment["id"]): readable_name(classes[segment["category_id"]]) for segment in segments}
            crowds = frozenset(int(segment["id"]) for segment in segments if segment.get("iscrowd"))
            return [PanopticAnnotation(folder, str(annotation["file_name"]), names, crowds)]
        return [
            InstanceAnnotation(
                id=str(annotation.get("id")),
                name=classes[annotation["category_id"]],
                segmentation=annotation.get("segmentation"),
                bbox=tuple(annotation.get("bbox") or ()),
                image_size=(image["width"], image["height"]) if {"width", "height"} <= image.keys() else None,
                unfit=CROWD if annotation.get("iscrowd") else "",
            )
        ]

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """The regions of every annotation of this image, in the order of the file."""
        return [region for annotation in ref.annotations for region in annotation.regions(image.size)]


def readable_name(category: str) -> str:
    """A panoptic category as a person says it: "wall-other-merged" -> "wall", "floor-wood" -> "wooden floor"."""
    return STUFF_NAMES.get(category) or " ".join(word for word in category.split("-") if word not in BOOKKEEPING)


def segmentation_mask(segmentation: Any, size: Size) -> np.ndarray:
    """A COCO `segmentation` as a [height, width] bool mask: a list of polygons (their union), or an RLE.

    Raises:
        ValueError: neither of them, a polygon with fewer than 3 points or a coordinate far outside the image, or an
            RLE of another size than the image.
    """
    width, height = size
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != [height, width]:  # before decoding: a wrong size can be huge
            raise ValueError(f"a mask has size {segmentation.get('size')}, its image [{height}, {width}].")
        return decode_rle(cast(Rle, segmentation))
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise ValueError("a segmentation is a list of polygons [[x, y, x, y, x, y], ...], or an RLE.")
    mask = np.zeros((height, width), dtype=bool)
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon has {len(polygon)} numbers; it needs x, y of at least 3 points.")
        vertices = np.reshape(np.asarray(polygon, dtype=np.float64), (-1, 2))
        if not (np.abs(vertices) < FARTHEST).all():
            raise ValueError(f"a polygon has a coordinate that is no pixel: {vertices.ravel()[:8].tolist()}.")
        mask |= polygon_mask(vertices, size)
    return mask


def read_segment_ids(png: str, folder: Path) -> np.ndarray:
    """A panoptic PNG inside `folder` as [height, width] segment ids (0 is unlabelled)."""
    try:
        channels = np.asarray(open_image(png, root=folder)).astype(np.int64)
    except ImageError as error:
        raise ImageError(f"The panoptic PNG {error} Its folder can be set: panoptic_images=FOLDER.") from None
    return channels @ np.array([1, 256, 256**2])

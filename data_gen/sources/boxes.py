"""Regions from boxes: of any detector, of OmniParser, of a web page's elements, of an Android screen; or user masks.

    source=boxes images=shots annotations=boxes.json        one JSON file about all images
    source=boxes images=shots annotations=dumps             a folder with <image>.json or <image>.xml for each image
    source=boxes images=shot.png annotations=window_dump.xml

Boxes that a person or detector listed are taken as they are. Dumps of screens hold every wrapper and every line of
text, so they are cleaned up first (`elements`). Magma trains on exactly such boxes (arXiv 2502.13130, section 4.2).
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import UNREADABLE, AnnotatedSource, FileSource, ImageRef, refs_of
from data_gen.sources.coco import segmentation_mask
from data_gen.sources.elements import (
    SCREEN_OVERLAP,
    Canvas,
    Element,
    is_outside,
    joined_texts,
    joined_to_icons,
    visible_sides,
    without_overlaps,
    without_wrappers,
)
from data_gen.sources.screen_formats import (
    is_one_screen,
    looks_like_xml,
    problem,
    read_screen,
    screen_elements,
    unknown,
)
from llava_som.config_file import option
from llava_som.images import list_images
from llava_som.marks.region import Region, RegionInfo


@SOURCES.register("boxes")
@dataclass(frozen=True, kw_only=True)
class BoxSource(AnnotatedSource):
    """Boxes or masks in a JSON file; OmniParser output, web page elements and Android screens, in a file or folder."""

    annotations: Path = option(help="a file of boxes, or a folder with <image>.json or <image>.xml for each image")
    only_interactive: bool = option(False, help="keep only what can be clicked or filled in")
    only_named: bool = option(False, help="keep only what has a name or a text, such as listings need")
    min_size: int = option(0, help="drop boxes narrower or lower than this many pixels")
    max_overlap: float | None = option(
        None,
        help="of two boxes that share more than this part of the smaller one, keep the smaller; "
        f"by default {SCREEN_OVERLAP} for screens, 1 (keep all) for lists of boxes",
    )
    keep_wrappers: bool = option(False, help="keep elements without text or use that only hold others (div, layouts)")
    merge_text: int = option(0, help="join texts at most this many pixels apart, sideways or downwards; 0: do not")
    drop_outside: bool = option(False, help="drop boxes that lie outside the image; otherwise they are an error")
    canvas: tuple[int, int] | None = option(
        None, help="width and height the boxes were measured in, where the image was resized since"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_overlap is not None and not 0 <= self.max_overlap <= 1:
            raise ValueError(f"max_overlap={self.max_overlap}: a share of a box, 0 to 1.")
        for key in ("min_size", "merge_text"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}={getattr(self, key)}: pixels cannot be fewer than 0.")
        if self.canvas and min(self.canvas) < 1:
            raise ValueError(f"canvas={list(self.canvas)}: give width and height, at least 1 each.")

    def refs(self) -> Sequence[ImageRef]:
        """The images that the file names, or with a folder of dumps every image."""
        if self.annotations.is_dir():
            refs = FileSource.refs(self)
            dumps = [self._dump_of(ref) for ref in refs]
            if not any(dump.exists() for dump in dumps):
                raise ValueError(
                    f"annotations={self.annotations}: has no <image>.json or .xml for any of {self.images}."
                )
            return [replace(ref, annotations=(dump,)) for ref, dump in zip(refs, dumps, strict=True)]
        if looks_like_xml(self.annotations):
            return refs_of([self._only_image()], [read_screen(self.annotations)])
        return super().refs()

    def refuse_output(self, out: Path) -> None:
        """With a folder of dumps every image is input, so a ValueError where `out` lies among them."""
        if self.annotations.is_dir():
            FileSource.refuse_output(self, out)

    def entries(self, content: Any) -> dict[str, tuple[Any, ...]]:
        """Image file name -> its elements. Rows of one image are joined."""
        if is_one_screen(content):
            pairs = [(self._only_image().as_posix(), content)]
        elif isinstance(content, dict):
            pairs = list(content.items())
        elif isinstance(content, list) and all(isinstance(row, dict) for row in content):
            pairs = [(row.get("image"), row.get("boxes", row)) for row in content]
        else:
            raise ValueError(f"{self.annotations}: {problem(unknown(content))}")
        found: dict[str, list[Element]] = {}
        for file, screen in pairs:
            try:
                if not isinstance(file, str):
                    raise ValueError(f"{reprlib.repr(file)} is no file name of an image")
                earlier = found.setdefault(file, [])
                first = int(earlier[-1].id) + 1 if earlier else 0
                earlier += [replace(element, id=str(first + int(element.id))) for element in screen_elements(screen)]
            except UNREADABLE as error:
                raise ValueError(f"{self.annotations}: {problem(error, file)}") from None
        return {file: tuple(elements) for file, elements in found.items()}

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """One region for each box that the options keep, in the order of the file."""
        found: list[Element] = []
        for known in ref.annotations:
            found += read_screen(known) if isinstance(known, Path) else [known]
        canvas = Canvas(*self.canvas) if self.canvas else None
        placed = [with_mask(element.in_pixels(image.size, canvas), image.size) for element in found]
        return [region_of(element, image.size) for element in self._kept(placed, image.size)]

    def _kept(self, elements: list[Element], size: tuple[int, int]) -> list[Element]:
        """The clean-up, in the order in which each step needs the one before."""
        if self.drop_outside:
            elements = [element for element in elements if not is_outside(element.box, size)]
        if self.min_size:
            elements = [element for element in elements if min(visible_sides(element.box, size)) >= self.min_size]
        if not self.keep_wrappers:
            elements = without_wrappers(elements)
        elements = joined_to_icons(without_overlaps(elements, self.max_overlap))
        if self.merge_text:
            elements = joined_texts(elements, self.merge_text)
        return [
            element
            for element in elements
            if (element.interactive or not self.only_interactive) and (element.name or not self.only_named)
        ]

    def _dump_of(self, ref: ImageRef) -> Path:
        """The file about one image in the folder of dumps: .json, unless only .xml is there."""
        dump = self.annotations / Path(ref.path or ref.id).with_suffix(".json")
        return dump.with_suffix(".xml") if dump.with_suffix(".xml").exists() and not dump.exists() else dump

    def _only_image(self) -> Path:
        """The image of a dump that does not name one: the one given, or the one that is called like the dump."""
        if self.images.is_file():
            return Path(self.images.name)
        called = [file for file in list_images(self.images) if file.stem == self.annotations.stem]
        if len(called) != 1:
            raise ValueError(
                f"{self.annotations}: is about one image and does not name it. Give that image, images=SHOT.png; or "
                "name the dump after it."
            )
        return called[0].relative_to(self.images)


def with_mask(element: Element, size: tuple[int, int]) -> Element:
    """The element with the region that its segmentation describes, if it has one, and the box of that."""
    if element.segmentation is None:
        return element
    try:
        mask = Region.from_mask(segmentation_mask(element.segmentation, size), **info_of(element))
    except UNREADABLE as error:
        raise ValueError(f"entry {element.id} ({element.name}): {error}") from None
    return replace(element, mask=mask, box=mask.bbox_xywh)


def region_of(element: Element, size: tuple[int, int]) -> Region:
    """The element as a region of an image of `size`."""
    if element.mask is not None:
        return element.mask
    try:
        return Region.from_box(element.box, size, **info_of(element))
    except ValueError as error:
        outside = " drop_outside=true leaves such boxes out." if is_outside(element.box, size) else ""
        raise ValueError(f"entry {element.id} ({element.name}): {error}{outside}") from None


def info_of(element: Element) -> RegionInfo:
    """What the region of an element is told about it."""
    return {
        "name": element.name,
        "score": element.score,
        "source": "boxes",
        "id": element.id,
        "attributes": element.attributes,
    }

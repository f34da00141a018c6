"""The sidecar: what was drawn where, so that nothing later has to guess (published tools keep only the picture).

One JSON file beside each marked image, `<image stem>.marks.json`, ties every number to its mask, box, point and name,
and lists the regions that got no number with the reason. The preset is stored in full: the drawing can be repeated from
the sidecar and the clean image alone, whatever later versions do to the presets.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from .order import Skipped
from .placement import Mark
from .presets import Preset
from .region import Region
from .render import fit_short_side, render_marks
from .rle import Rle, encode_rle

_SUFFIX = ".marks.json"


class RecordedRegion(BaseModel):
    """A region in the marked image's pixels. `bbox_xywh`, `area` and `rle` are of the whole region."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bbox_xywh: tuple[int, int, int, int]
    area: int
    area_visible: int
    rle: Rle
    category: str | None
    source: str
    score: float | None
    region_id: str | None

    def region(self) -> Region:
        """The region itself again."""
        return Region.from_rle(self.rle, name=self.category, score=self.score, source=self.source, id=self.region_id)


class RecordedMark(RecordedRegion):
    """A mark that was drawn; see `Mark` for the fields. `area_visible` pixels are in no smaller region."""

    id: int
    label: str
    point_xy: tuple[int, int]
    tag_box_xyxy: tuple[int, int, int, int]


class SkippedRegion(RecordedRegion):
    """A region that got no mark, and why."""

    reason: str


class MarkRecord(BaseModel):
    """Everything about one marked image.

    Args:
        image: file name of the marked image, once it has one.
        size: (width, height) of the marked image.
        preset: the preset, in full.
        seed: seed of the run that found the regions; drawing itself uses no random number.
        tool_version: version of llava_som that drew it.
        marks: exactly the marks drawn, by id.
        skipped: the regions without a mark, smallest first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    image: str | None = None
    size: tuple[int, int]
    preset: Preset
    seed: int
    tool_version: str
    marks: list[RecordedMark]
    skipped: list[SkippedRegion]

    @classmethod
    def of(
        cls, size: tuple[int, int], preset: Preset, seed: int, marks: Sequence[Mark], skipped: Sequence[Skipped]
    ) -> MarkRecord:
        """The record of a drawing that has just been planned."""
        return cls(
            size=size,
            preset=preset,
            seed=seed,
            tool_version=_tool_version(),
            marks=[
                RecordedMark(
                    id=mark.id,
                    label=mark.label,
                    point_xy=mark.point_xy,
                    tag_box_xyxy=mark.tag_box_xyxy,
                    **_region_fields(mark.region, mark.visible.area),
                )
                for mark in marks
            ],
            skipped=[
                SkippedRegion(reason=item.reason, **_region_fields(item.region, item.area_visible)) for item in skipped
            ],
        )

    def redraw(self, clean: Image.Image) -> Image.Image:
        """The marked image again, from this record and the image without marks (at its own or the marked size)."""
        fitted = fit_short_side(clean.convert("RGB"), self.preset.short_side)
        if fitted.size != self.size:
            raise ValueError(
                f"This record is of an image marked at {self.size[0]}x{self.size[1]}, but the image given, "
                f"{clean.width}x{clean.height}, becomes {fitted.width}x{fitted.height}. It is another image."
            )
        return render_marks(fitted, self.marks, self.preset)

    def to_json(self) -> str:
        """The text of the sidecar file."""
        return self.model_dump_json(indent=1) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON; returns the path."""
        path = Path(path)
        path.write_text(self.to_json(), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> MarkRecord:
        """Read a record; a file that is absent or not a record is a ValueError naming it."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise ValueError(f"{path} is not a readable marks sidecar; mark the image again. {error}") from error


def sidecar_path(image_path: str | Path) -> Path:
    """Where the record of a marked image lies: `dog.jpg` -> `dog.marks.json`, in the same folder."""
    return Path(image_path).with_suffix(_SUFFIX)


def _region_fields(region: Region, area_visible: int) -> dict:
    return {
        "bbox_xywh": region.bbox_xywh,
        "area": region.area,
        "area_visible": area_visible,
        "rle": encode_rle(region.mask, region.x, region.y, region.image_size),
        "category": region.name,
        "source": region.source,
        "score": region.score,
        "region_id": region.id,
    }


@lru_cache(maxsize=1)
def _tool_version() -> str:
    try:
        return importlib.metadata.version("llava_som")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "uninstalled"

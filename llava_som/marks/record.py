"""The sidecar: what was drawn where, so that nothing later has to guess (published tools keep only the picture).

One JSON file beside each marked image, `<image stem>.marks.json`, ties every number to its mask, box, point and name,
and lists the regions that got no number with the reason. The preset is stored in full: the drawing can be repeated from
the sidecar and the clean image alone, whatever later versions do to the presets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from llava_som import __version__

from .order import Skipped
from .placement import Mark
from .presets import Preset
from .region import Region
from .render import fit_image, render_marks
from .rle import Rle, encode_rle
from .tags import font_digest

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
    attributes: tuple[str, ...] = ()
    trace: tuple[tuple[float, float], ...] = ()

    def region(self) -> Region:
        """The region itself again."""
        return Region.from_rle(
            self.rle,
            name=self.category,
            score=self.score,
            source=self.source,
            id=self.region_id,
            attributes=self.attributes,
            trace=self.trace,
        )


class RecordedMark(RecordedRegion):
    """A mark that was drawn; see `Mark` for the fields.

    `area_visible` pixels are in no smaller region; they are `visible_rle`, or all of the region where that is None.
    """

    id: int
    label: str
    point_xy: tuple[int, int]
    tag_box_xyxy: tuple[int, int, int, int]
    leader_xyxy: tuple[int, int, int, int] | None = None
    visible_rle: Rle | None = None

    @property
    def visible(self) -> Region:
        """The part of the region that no smaller one covers."""
        return Region.from_rle(self.visible_rle or self.rle)


class SkippedRegion(RecordedRegion):
    """A region that got no mark, and why."""

    reason: str


class MarkRecord(BaseModel):
    """Everything about one marked image.

    Args:
        image: file name of the marked image, once it has one.
        size: (width, height) of the marked image.
        preset: the preset, in full.
        seed: seed of the run that found the regions; it also decides a shuffled numbering.
        tool_version: version of llava_som that drew it.
        font_sha256: of the preset's font file, when it names one.
        origin: which source found the regions, with its options, where the caller knows.
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
    font_sha256: str | None = None
    origin: dict[str, Any] = {}
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
            tool_version=__version__,
            font_sha256=font_digest(preset.font),
            marks=[
                RecordedMark(
                    id=mark.id,
                    label=mark.label,
                    point_xy=mark.point_xy,
                    tag_box_xyxy=mark.tag_box_xyxy,
                    leader_xyxy=mark.leader_xyxy,
                    visible_rle=None if mark.visible.area == mark.region.area else _rle(mark.visible),
                    **_region_fields(mark.region, mark.visible.area),
                )
                for mark in marks
            ],
            skipped=[
                SkippedRegion(reason=item.reason, **_region_fields(item.region, item.area_visible)) for item in skipped
            ],
        )

    def redraw(self, clean: Image.Image) -> Image.Image:
        """The marked image again, from this record and the image without marks (at its own or the marked size).

        Raises:
            ValueError: the image becomes another size; the font is missing or has changed.
        """
        if font_digest(self.preset.font) != self.font_sha256:
            raise ValueError(
                f"{self.preset.font} is not the font that these marks were drawn with (SHA-256 {self.font_sha256}). "
                "Put that file back, or mark the image again."
            )
        fitted = fit_image(clean.convert("RGB"), self.preset)
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
        "rle": _rle(region),
        "category": region.name,
        "source": region.source,
        "score": region.score,
        "region_id": region.id,
        "attributes": region.attributes,
        "trace": [(round(x, 2), round(y, 2)) for x, y in region.trace],
    }


def _rle(region: Region) -> Rle:
    return encode_rle(region.mask, region.x, region.y, region.image_size)

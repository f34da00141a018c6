"""Tagging without training data: images in, the same images with numbers out, each with its sidecar beside it.

This is what `llava-som tag` calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.config import build, field_names
from data_gen.journal import Entry
from data_gen.pipeline import with_progress
from data_gen.sources import SOURCES
from data_gen.sources.base import FileSource, ImageRef
from data_gen.writers import PILLOW_FORMATS, save_marked
from llava_som.images import ImageError, resolve_inside
from llava_som.marks.marker import mark_image
from llava_som.marks.presets import Preset, get_preset
from llava_som.marks.record import MarkRecord, sidecar_path
from llava_som.quarantine import Quarantine
from llava_som.registry import closest_match_message


def tag(
    inputs: str | Path,
    out: str | Path,
    source: str,
    *,
    preset: str = "paper",
    seed: int = 0,
    force: bool = False,
    show_progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Mark one image or every image of a folder.

    Args:
        inputs: an image file or a folder.
        out: the folder to write; for one image also the name of the marked file (.jpg or .png).
        source: name of the region source.
        preset: name of the preset.
        seed: passed to the source where it declares one, and kept in the sidecars.
        force: mark again what an earlier call with the same source, preset and seed has marked.
        show_progress: draw a progress bar.
        **options: options of the source (`annotations=` for coco and boxes); None counts as not given.

    Returns:
        {"tagged", "kept" (marked earlier), "marks", "quarantined", "quarantined_by_reason"}.

    Raises:
        ValueError: an unknown source, option or preset; for one image also whatever is wrong with that image.
    """
    plug_in = file_source(source, {**options, "images": Path(inputs), "seed": seed})
    tagger = Tagger(plug_in, source, get_preset(preset), seed, Path(out))
    plug_in.refuse_output(tagger.out)
    if plug_in.images.is_file():
        return {**count([tagger.mark(ref) for ref in plug_in.refs()]), "kept": 0}
    refs = plug_in.refs()
    todo = [ref for ref in refs if force or not tagger.is_marked(ref)]
    rejected = tagger.out / "quarantine.jsonl"
    rejected.unlink(missing_ok=True)  # what an earlier call set aside is tried again
    quarantine = Quarantine(rejected)
    entries = []
    for entry in with_progress(map(tagger, todo), len(todo), "tagging", show_progress):
        if entry["status"] == "quarantined":
            quarantine.add(entry["id"], entry["file"], entry["reason"])
        entries.append(entry)
    return {**count(entries), "kept": len(refs) - len(todo)}


def file_source(name: str, options: dict[str, Any]) -> FileSource:
    """The source `name` from its options, of which None means not given; it has to be one that reads image files."""
    source_class = SOURCES.get(name)
    if not issubclass(source_class, FileSource):
        raise ValueError(
            f"source={name} draws its own images, there is nothing to tag. Use `llava-som synth source={name}`."
        )
    given = {key: value for key, value in options.items() if value is not None}
    known = field_names(source_class) | {"seed"}
    for key in given:
        if key not in known:
            raise ValueError(closest_match_message(f"option of source={name}", key, known))
    return build(source_class, given)


@dataclass(frozen=True)
class Tagger:
    """Marks the images of a source into `out`: a folder, or the name of the one marked file."""

    source: FileSource
    source_name: str
    preset: Preset
    seed: int
    out: Path

    def __call__(self, ref: ImageRef) -> Entry:
        """Mark one image of many: what is wrong with it becomes an entry, not an error."""
        try:
            return self.mark(ref)
        except ValueError as error:
            kind = "unusable image" if isinstance(error, ImageError) else "annotation does not fit the image"
            return {"id": ref.id, "status": "quarantined", "file": str(ref.path), "kind": kind, "reason": str(error)}

    def mark(self, ref: ImageRef) -> Entry:
        """Mark one image and write it with its sidecar; an image without regions is written without marks."""
        target = self.target(ref)
        if target.exists() and not sidecar_path(target).exists():
            raise ValueError(f"{target}: is there already, and is not a marked image. Choose another output folder.")
        if target.resolve() == (self.source.root / (ref.path or ref.id)).resolve():
            raise ValueError(f"{target}: would be written over by its own marked copy. Choose another output folder.")
        image = self.source.load(ref)
        marked = mark_image(image, self.source.regions(ref, image), self.preset, self.seed)
        path = save_marked(marked, target.parent, target.name)
        return {"id": ref.id, "status": "ok", "marks": len(marked.record.marks), "image": str(path)}

    def target(self, ref: ImageRef) -> Path:
        """Where the marked image goes: PNG stays PNG, everything else becomes JPEG."""
        if self.source.images.is_file() and self.out.suffix and not self.out.is_dir():
            if self.out.suffix not in PILLOW_FORMATS:
                raise ValueError(
                    f"{self.out}: a marked image is written as {' or '.join(PILLOW_FORMATS)}, or give a folder."
                )
            return self.out
        suffix = ".png" if ref.path is not None and ref.path.suffix.lower() == ".png" else ".jpg"
        return resolve_inside(f"{ref.id}{suffix}", self.out)

    def is_marked(self, ref: ImageRef) -> bool:
        """Whether an earlier run wrote this image with the same source, preset and seed."""
        target = self.target(ref)
        if not target.exists() or not sidecar_path(target).exists():
            return False
        try:
            record = MarkRecord.load(sidecar_path(target))
        except ValueError:  # a damaged sidecar is written again
            return False
        sources = {region.source for region in (*record.marks, *record.skipped)}
        return (record.preset, record.seed) == (self.preset, self.seed) and sources <= {self.source_name}


def count(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts of a tagging run."""
    rejected = [entry["kind"] for entry in entries if entry["status"] == "quarantined"]
    return {
        "tagged": len(entries) - len(rejected),
        "marks": sum(entry["marks"] for entry in entries if entry["status"] == "ok"),
        "quarantined": len(rejected),
        "quarantined_by_reason": dict(Counter(rejected).most_common()),
    }

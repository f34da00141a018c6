"""Tagging without training data: images in, the same images with numbers out, each with its sidecar beside it.

This is what `llava-som tag` calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.card import shareable
from data_gen.config import build, changed_preset, described, field_names, refuse_unknown
from data_gen.engines.processes import batched, in_processes
from data_gen.journal import JOURNAL, Entry
from data_gen.lock import sole_writer
from data_gen.pipeline import are_current, with_progress
from data_gen.sources import SOURCES
from data_gen.sources.base import FileSource, ImageRef, PageSource
from data_gen.stages import empty_entry, output_name, reject_image, tag_image
from data_gen.writers.files import save_json_lines, save_marked
from data_gen.writers.lists import reject_rows
from llava_som.config_file import option
from llava_som.images import STORED_FORMATS, resolve_inside
from llava_som.marks.presets import PRESETS, Preset
from llava_som.marks.record import MarkRecord, sidecar_path


@dataclass(frozen=True, kw_only=True)
class TagConfig:
    """Options of tagging itself; the others are the source's."""

    preset: str = option("clear", help=f"how marks look: {', '.join(sorted(PRESETS))}")
    marks: dict[str, Any] = option(factory=dict, help="fields of the preset to change; preset=NAME chooses a whole one")
    seed: int = option(0, help="goes to the source where it declares one, and into the sidecars")
    force: bool = option(False, help="mark again what an earlier call with the same options has marked")
    workers: int = option(1, help="processes; the output does not depend on it")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: at least one process has to do the work.")


def tag(
    inputs: str | Path, out: str | Path, source: str = "classical", *, show_progress: bool = False, **options: Any
) -> dict[str, Any]:
    """Mark one image or every image of a folder.

    Args:
        inputs: an image file or a folder.
        out: the folder to write; for one image also the name of the marked file (.jpg or .png).
        source: name of the region source.
        show_progress: draw a progress bar.
        **options: those of `TagConfig` and of the source (`annotations=` for coco and boxes); None counts as not given.

    Returns:
        {"tagged", "kept" (marked earlier), "marks", "rejected", "rejected_by_reason"}.

    Raises:
        ValueError: an unknown source, option or preset; for one image also whatever is wrong with that image.
        OSError: the disk is full, a file may not be written. What is finished stays; the same call goes on.
    """
    given = {key: value for key, value in options.items() if value is not None}
    config = build(TagConfig, given)
    plug_in = file_source(source, Path(inputs), {**given, "seed": config.seed})
    preset = changed_preset(config.preset, config.marks)
    tagger = Tagger(plug_in, described(source, plug_in), preset, config.seed, Path(out))
    plug_in.refuse_output(tagger.out)
    refs = plug_in.refs()
    if not plug_in.images.is_file():
        return tag_folder(tagger, refs, config, show_progress)
    if len(refs) > 1 and Path(out).suffix in STORED_FORMATS:
        raise ValueError(f"{out}: {plug_in.images} gives {len(refs)} images. Give a folder to write them to.")
    return {**count([tagger.mark(ref) for ref in refs]), "kept": 0}


def tag_folder(tagger: Tagger, refs: Sequence[ImageRef], config: TagConfig, show_progress: bool) -> dict[str, Any]:
    """Mark what is not marked yet; returns what `tag` does."""
    if (tagger.out / JOURNAL).exists():
        raise ValueError(f"{tagger.out}: holds a training set. Choose another output folder.")
    with sole_writer(tagger.out):
        todo = [ref for ref in refs if config.force or not tagger.is_marked(ref)]
        with closing(in_processes(tagger, batched(todo, 1), config.workers)) as made:
            found = {entry["id"]: entry for entry in with_progress(made, len(todo), "tagging", show_progress)}
        entries = [found[ref.id] for ref in todo]
        rejects = tagger.out / "rejects.jsonl"
        rejects.unlink(missing_ok=True)
        if any(entry["rejects"] for entry in entries):
            save_json_lines(reject_rows(entries), rejects)
    return {**count(entries), "kept": len(refs) - len(todo)}


def file_source(name: str, images: Path, options: Mapping[str, Any]) -> FileSource:
    """The source `name` for these images; it has to be one that reads image files. Options of tagging may be left."""
    source_class = SOURCES.get(name)
    if not issubclass(source_class, FileSource):
        nothing = "gives pages, which" if issubclass(source_class, PageSource) else "makes its own images, which"
        raise ValueError(f"source={name} {nothing} are not for tagging. Use `llava-som synth source={name}`.")
    known = (field_names(source_class) - {"images"}) | field_names(TagConfig)
    refuse_unknown(options, known, f"option of source={name}")
    return build(source_class, {**options, "images": images})


@dataclass(frozen=True)
class Tagger:
    """Marks the images of a source, which `origin` describes, into `out`: a folder, or the name of the marked file."""

    source: FileSource
    origin: dict[str, Any]
    preset: Preset
    seed: int
    out: Path

    def __call__(self, refs: Sequence[ImageRef]) -> list[Entry]:
        """Mark a batch of many images: what is wrong with one becomes its reject, not an error."""
        return [self._entry(ref) for ref in refs]

    def _entry(self, ref: ImageRef) -> Entry:
        try:
            return self.mark(ref)
        except Exception as error:
            return empty_entry(ref) | {"rejects": [reject_image(ref, error)]}

    def mark(self, ref: ImageRef) -> Entry:
        """Mark one image and write it with its sidecar; an image without regions is written without marks."""
        target = self.target(ref)
        if target.exists() and not sidecar_path(target).exists():
            raise ValueError(f"{target}: is there already, and is not a marked image. Choose another output folder.")
        if target.resolve() == (self.source.root / (ref.path or ref.id)).resolve():
            raise ValueError(f"{target}: would be written over by its own marked copy. Choose another output folder.")
        _, marked = tag_image(self.source, ref, self.preset, self.seed, self.origin)
        target.unlink(missing_ok=True)  # the sidecar comes first: a kill must not leave it beside an older picture
        path = save_marked(marked, target.parent, target.name)
        return empty_entry(ref) | {"marks": len(marked.record.marks), "image": str(path)}

    def target(self, ref: ImageRef) -> Path:
        """Where the marked image goes: PNG stays PNG, everything else becomes JPEG."""
        if self.source.images.is_file() and self.out.suffix and not self.out.is_dir():
            if self.out.suffix not in STORED_FORMATS:
                raise ValueError(
                    f"{self.out}: a marked image is written as {' or '.join(STORED_FORMATS)}, or give a folder."
                )
            return self.out
        suffix = ".png" if ref.path is not None and ref.path.suffix.lower() == ".png" else ".jpg"
        return resolve_inside(output_name(ref.id, suffix), self.out)

    def is_marked(self, ref: ImageRef) -> bool:
        """Whether an earlier run wrote this image with the same source and options, preset and seed."""
        try:
            target = self.target(ref)
            if not are_current((target, sidecar_path(target)), self.source, ref):
                return False
            record = MarkRecord.load(sidecar_path(target))
        except ValueError:  # a name that cannot be written, which `mark` will tell; a damaged sidecar is written again
            return False
        return (record.preset, record.seed, record.origin) == (self.preset, self.seed, shareable(self.origin))


def count(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts of a tagging run."""
    rejected = [rejected["kind"] for entry in entries for rejected in entry["rejects"]]
    return {
        "tagged": len(entries) - len(rejected),
        "marks": sum(entry.get("marks", 0) for entry in entries),
        "rejected": len(rejected),
        "rejected_by_reason": dict(Counter(rejected).most_common()),
    }

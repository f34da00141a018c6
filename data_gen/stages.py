"""The two stages of a run, each a function from a batch of records to a batch of records: mark images, then annotate.

A run over pages has a single stage of its own (data_gen.documents.stage).

A stage knows nothing of processes, threads or clusters; an engine (data_gen.engines) carries it there. What is wrong
with one image becomes a reject of that image. What is wrong with the machine (a full disk, a missing checkpoint, a
wrong key) is an OSError, ImportError or ValueError of the annotator, and stops the run.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from PIL import Image

from data_gen.annotators.base import Annotator
from data_gen.card import shareable
from data_gen.config import Run
from data_gen.duplicates import difference_hash, file_hash
from data_gen.journal import Entry
from data_gen.requests import Answer, Conversation, EncodedImage, Rejected, Request, Tagged, Turn
from data_gen.sources.base import FileSource, ImageRef, RegionSource
from data_gen.writers.files import save_image, save_marked
from llava_som.images import ImageError
from llava_som.marks.marker import MarkedImage, mark_image
from llava_som.marks.presets import Preset
from llava_som.marks.record import MarkRecord, sidecar_path
from llava_som.marks.render import fit_image

logger = logging.getLogger(__name__)

Stage = Callable[[Sequence[Any]], list[Entry]]
STOPS_THE_RUN = (OSError, ImportError)
NAME_FAULTS = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Errors of a disk that mean one file's name: too long, or taken by a folder where a file is wanted, or the reverse."""


@dataclass(frozen=True)
class MarkImages:
    """Images to tagged images with sidecars, written to the output folder."""

    run: Run

    def __call__(self, refs: Sequence[ImageRef]) -> list[Entry]:
        """One entry for each ref: the files that were written, or why there are none."""
        return [self._entry(ref) for ref in refs]

    def _entry(self, ref: ImageRef) -> Entry:
        entry = empty_entry(ref)
        try:
            return entry | self._write(ref)
        except Exception as error:
            return entry | {"rejects": [reject_image(ref, error)]}

    def _write(self, ref: ImageRef) -> Entry:
        run, out = self.run, self.run.config.out
        image, marked = mark(run, ref)
        name = output_name(ref.id, run.suffix)
        save_marked(marked, out / "images", name)
        written: Entry = {"image": f"images/{name}"}
        written["sidecar"] = sidecar_path(Path(written["image"])).as_posix()
        if run.config.untagged or run.config.twins:
            save_image(fit_image(image, marked.record.preset), out / "clean", name)
            written["clean_image"] = f"clean/{name}"
        marks, skipped = marked.record.marks, marked.record.skipped
        return written | {
            "marks": len(marks),
            "skipped": len(skipped),
            "sources": sorted({found.source for found in marks}),
        }


def mark(run: Run, ref: ImageRef) -> tuple[Image.Image, MarkedImage]:
    """The image of a ref, and its tagged copy.

    Raises:
        ValueError: an unusable image, an annotation that does not fit it, or no region that can be marked.
    """
    image, marked = tag_image(run.source, ref, run.preset, run.config.seed, run.origin)
    if not marked.record.marks:
        reasons = "; ".join(sorted({skipped.reason for skipped in marked.record.skipped}))
        raise Rejected("no region to mark", reasons or "the source has none")
    return image, marked


def tag_image(
    source: RegionSource, ref: ImageRef, preset: Preset, seed: int, origin: Mapping[str, Any]
) -> tuple[Image.Image, MarkedImage]:
    """The image of a ref, and its copy with tags, whose record says where the regions come from."""
    image = source.load(ref)
    marked = mark_image(image, source.regions(ref, image), preset, seed)
    return image, MarkedImage(marked.image, marked.record.model_copy(update={"origin": shareable(origin)}))


@dataclass(frozen=True)
class Fingerprint:
    """Images to (id, fingerprint) for finding near-duplicates; an image that cannot be opened has None."""

    source: RegionSource

    def __call__(self, refs: Sequence[ImageRef]) -> list[tuple[str, int | None]]:
        """One pair for each ref."""
        return [(ref.id, self._fingerprint(ref)) for ref in refs]

    def _fingerprint(self, ref: ImageRef) -> int | None:
        try:
            if isinstance(self.source, FileSource) and ref.path is not None:
                return file_hash(self.source.file(ref))
            return difference_hash(self.source.load(ref))
        except ValueError:  # the run itself will say what is wrong with it
            return None


@dataclass(frozen=True)
class Annotate:
    """Tagged images to training conversations: every recipe of the run asks, the annotator answers."""

    run: Run

    def __call__(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries with their samples and rejects; an entry that has no tagged image passes unchanged."""
        asked = [(entry, recipe) for entry in entries if "image" in entry for recipe in self.run.recipes]
        tagged = {entry["id"]: self._tagged(entry) for entry in entries if "image" in entry}
        conversations = [open_conversation(self.run, recipe, tagged[entry["id"]]) for entry, recipe in asked]
        finished = {entry["id"]: {**entry, "samples": [], "rejects": list(entry["rejects"])} for entry in entries}
        for (entry, recipe), outcome in zip(asked, hold(conversations, self.run.annotator), strict=True):
            self._record(finished[entry["id"]], recipe, outcome)
        return list(finished.values())

    def _tagged(self, entry: Entry) -> Tagged:
        out = self.run.config.out
        return Tagged(entry["id"], EncodedImage.read(out / entry["image"]), MarkRecord.load(out / entry["sidecar"]))

    def _record(self, entry: Entry, recipe: str, outcome: Outcome) -> None:
        """Add what came of one recipe to the entry, in place."""
        if outcome.prompt_tokens or outcome.completion_tokens:
            usage = entry.setdefault("usage", {"prompt_tokens": 0, "completion_tokens": 0})
            usage["prompt_tokens"] += outcome.prompt_tokens
            usage["completion_tokens"] += outcome.completion_tokens
        if outcome.error is not None:
            entry["rejects"].append(reject(recipe, outcome.error))
            return
        name = entry["id"] if len(self.run.recipes) == 1 else f"{entry['id']}:{recipe}"
        entry["samples"].append(llava_sample(name, entry["image"], recipe, outcome.turns))
        if self.run.config.twins:
            twin = llava_sample(f"{name}:untagged", entry["clean_image"], recipe, outcome.turns)
            entry["samples"].append(twin)


def marking_stage(run: Run) -> Stage:
    """What is done where images are marked: with an annotator that is free to have, annotating too; pages at once."""
    if run.is_of_pages:
        from data_gen.documents.stage import MakePages

        return MakePages(run)
    return MarkImages(run) if run.annotator.is_shared else Chain((MarkImages(run), Annotate(run)))


@dataclass(frozen=True)
class Chain:
    """Stages one after the other, as one."""

    stages: tuple[Stage, ...]

    def __call__(self, batch: Sequence[Any]) -> list[Entry]:
        """The batch through every stage."""
        for stage in self.stages:
            batch = stage(batch)
        return list(batch)


def open_conversation(run: Run, recipe: str, tagged: Tagged) -> Conversation:
    """The conversation of a recipe about a tagged image; chance depends on the run's seed, the image and the recipe."""
    return run.recipes[recipe].conversation(tagged, Random(f"{run.config.seed}:{tagged.id}:{recipe}"))


@dataclass
class Outcome:
    """How one conversation ended: its turns, or the error that ended it; and the tokens it took."""

    turns: Sequence[Turn] = ()
    error: Exception | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


def hold(conversations: Sequence[Conversation], annotator: Annotator) -> list[Outcome]:
    """Run conversations side by side; requests that wait at the same time are answered in one call.

    An annotator's exception is passed on: it means that nothing can be answered.
    """
    outcomes = [Outcome() for _ in conversations]
    told: dict[int, Answer | Rejected] = {}  # what each open conversation is told next; at first, nothing
    open_ones: Iterable[int] = range(len(conversations))
    while open_ones:
        requests = ((k, _advance(conversations[k], told.get(k), outcomes[k])) for k in open_ones)
        asked = {k: request for k, request in requests if request is not None}
        told = dict(zip(asked, annotator.answer(list(asked.values())) if asked else [], strict=True))
        for k, answer in told.items():
            outcomes[k].prompt_tokens += answer.prompt_tokens
            outcomes[k].completion_tokens += answer.completion_tokens
        open_ones = list(told)
    return outcomes


def _advance(conversation: Conversation, told: Answer | Rejected | None, outcome: Outcome) -> Request | None:
    """The conversation's next request; None when it has ended, and how is in `outcome`."""
    try:
        if isinstance(told, Rejected):
            return conversation.throw(told)
        return next(conversation) if told is None else conversation.send(told)
    except StopIteration as end:
        outcome.turns = end.value
    except STOPS_THE_RUN:
        raise
    except Exception as error:
        outcome.error = error
    return None


def llava_sample(
    sample_id: str, image: str | Sequence[str], recipe: str, turns: Sequence[Turn], task: str | None = None
) -> dict[str, Any]:
    """A conversation in LLaVA's JSON format; `image`, or a list of several, is relative to the folder of data.json."""
    images = image if isinstance(image, str) or len(image) > 1 else image[0]
    named = {"recipe": recipe} if task is None else {"recipe": recipe, "task": task}
    conversations = [{"from": turn.speaker, "value": turn.text} for turn in turns]
    return {"id": sample_id, "image": images, **named, "conversations": conversations}


def file_of(ref: ImageRef) -> str:
    """What a person looks for: the file of an image, relative to the image root, or the id of one that is drawn."""
    return str(ref.path or ref.id)


def empty_entry(ref: ImageRef) -> Entry:
    """The journal entry of an image that nothing was made of yet."""
    return {"id": ref.id, "file": file_of(ref), "samples": [], "rejects": []}


def output_name(image_id: str, suffix: str) -> str:
    """What is written for an image or page, relative to the folder it goes to; two of them never share it.

    Raises:
        ImageError: the id climbs ("a/../b"), so it may name another image's file.
    """
    if ".." in PurePosixPath(image_id).parts:
        raise ImageError(f"{image_id}: holds '..'. Name the image by its path below the image root.")
    return f"{image_id}{suffix}"


def reject_image(ref: ImageRef, error: Exception) -> dict[str, Any]:
    """The reject of an image for what went wrong with it; what is wrong with the machine is raised again."""
    if isinstance(error, OSError) and error.errno in NAME_FAULTS:
        error = ImageError(f"{ref.id}: cannot be written under this name ({error.strerror}). Rename the file.")
    if isinstance(error, STOPS_THE_RUN):
        raise error
    return reject(None, error)


def reject(recipe: str | None, error: Exception) -> dict[str, Any]:
    """Why an image (recipe None) or one of its conversations is not in the data."""
    answer, reason = "", str(error)
    if isinstance(error, Rejected):
        kind, answer = error.kind, error.answer
    elif isinstance(error, ImageError):
        kind = "unusable image"
    elif isinstance(error, ValueError) and recipe is None:
        kind = "annotation does not fit the image"
    else:  # nobody foresaw it: one strange file shall not end a run of many, and the log has what a report needs
        kind, reason = "unexpected error", f"{type(error).__name__}: {error}"
        logger.error("This is a fault of the program; please report it.", exc_info=error)
    return {"recipe": recipe, "kind": kind, "reason": reason, "answer": answer}

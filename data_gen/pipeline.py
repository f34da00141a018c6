"""From a source to a training set: load, mark, ask, answer, check, write; one journal line for each image.

    generate({"source": "coco", "images": "val2017", "annotations": "instances_val2017.json", "out": "som_val"})

Images are independent of each other and of the worker that takes them, so a run that was killed and resumed, or spread
over processes, writes the same data.json as one that was not.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_gen.checks import Rejected
from data_gen.config import Run, plan_run
from data_gen.contact_sheet import write_contact_sheet
from data_gen.journal import Entry, Journal
from data_gen.recipes.base import Turn
from data_gen.sources.base import FileSource, ImageRef
from data_gen.writers import save_image, save_marked, write_lists
from llava_som.images import ImageError
from llava_som.marks.marker import mark_image
from llava_som.marks.record import sidecar_path
from llava_som.marks.render import fit_short_side

logger = logging.getLogger(__name__)

JOURNAL = "records.jsonl"
OUTPUTS = ("images", "clean", "data.json", "eval.jsonl", "quarantine.jsonl", "summary.json", "index.html")


def generate(options: Mapping[str, Any], show_progress: bool = False) -> dict[str, Any]:
    """Make (or finish) the training set that the options describe; returns the content of its summary.json.

    Raises:
        ValueError: an option is wrong, or the output folder holds another run. What is wrong with single images does
            not stop the run: they go to quarantine.jsonl with the reason.
    """
    run = plan_run(options)
    if isinstance(run.source, FileSource):
        run.source.refuse_output(run.config.out)
    refuse_foreign_files(run.config.out)
    refs = list(run.source.refs())[: run.config.limit]
    journal = Journal(run.config.out / JOURNAL, run.identity())
    todo = [ref for ref in refs if not is_finished(journal.entries.get(ref.id), run.config.out)]
    if len(todo) < len(refs):
        logger.info("%d of %d images were finished before; going on with the rest.", len(refs) - len(todo), len(refs))
    finished = for_each(MakeRecord(run), todo, run.config.workers)
    for entry in with_progress(finished, len(todo), "marking", show_progress):
        journal.append(entry)
    entries = [journal.entries[ref.id] for ref in refs]
    summary = write_lists(run.config.out, entries, run.identity())
    write_contact_sheet(run.config.out, entries, run.config.contact_sheet)
    return summary


def refuse_foreign_files(out: Path) -> None:
    """A ValueError where a new run would write over files that no run of ours made, the source's own images for one."""
    if (out / JOURNAL).exists():
        return
    for name in OUTPUTS:
        if (out / name).exists():
            raise ValueError(f"{out / name}: is there already, and not from a run of this tool. Choose another out=.")


def is_finished(entry: Entry | None, out: Path) -> bool:
    """Whether an earlier run made this record. What was set aside is tried again: the file may have been fixed."""
    return (
        entry is not None
        and entry["status"] == "ok"
        and all((out / entry[key]).exists() for key in ("image", "sidecar"))
    )


@dataclass(frozen=True)
class MakeRecord:
    """One image to one journal entry, its files written; callable in any process."""

    run: Run

    def __call__(self, ref: ImageRef) -> Entry:
        """The entry: the finished record, or why there is none."""
        try:
            return self._record(ref)
        except ImageError as error:
            return self._set_aside(ref, "unusable image", error)
        except Rejected as error:
            return self._set_aside(ref, error.kind, error)
        except ValueError as error:
            return self._set_aside(ref, "annotation does not fit the image", error)

    def _record(self, ref: ImageRef) -> Entry:
        run, out = self.run, self.run.config.out
        image = run.source.load(ref)
        marked = mark_image(image, run.source.regions(ref, image), run.preset, run.config.seed)
        if not marked.record.marks:
            skipped = len(marked.record.skipped)
            raise Rejected(
                "no region to mark", f"{skipped} regions, all too small to mark" if skipped else "the source has none"
            )
        rng = Random(f"{run.config.seed}:{ref.id}")
        turns = run.recipe.conversation(marked, run.annotator, rng)

        name = f"{ref.id}{self._suffix(ref)}"
        save_marked(marked, out / "images", name)
        entry: Entry = {"id": ref.id, "status": "ok", "image": f"images/{name}"}
        if run.config.untagged:
            save_image(fit_short_side(image, run.preset.short_side), out / "clean", name)
            entry["clean_image"] = f"clean/{name}"
        entry["sidecar"] = sidecar_path(Path(entry["image"])).as_posix()
        entry["marks"], entry["skipped"] = len(marked.record.marks), len(marked.record.skipped)
        entry["sample"] = llava_sample(ref.id, entry["image"], turns)
        return entry

    def _suffix(self, ref: ImageRef) -> str:
        chosen = self.run.config.image_format
        return f".{chosen}" if chosen != "auto" else ".png" if ref.path is None else ".jpg"

    def _set_aside(self, ref: ImageRef, kind: str, error: Exception) -> Entry:
        file = str(ref.path or ref.id)
        return {"id": ref.id, "status": "quarantined", "file": file, "kind": kind, "reason": str(error)}


def llava_sample(record_id: str, image: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """A conversation in LLaVA's JSON format; `image` is relative to the folder of data.json."""
    return {
        "id": record_id,
        "image": image,
        "conversations": [{"from": turn.speaker, "value": turn.text} for turn in turns],
    }


def for_each(make: Callable[[ImageRef], Entry], refs: Iterable[ImageRef], workers: int) -> Iterator[Entry]:
    """`make(ref)` of every ref, in this process or in `workers` new ones, as they finish.

    Only a few refs per worker are under way at a time, so annotations are not copied long before they are needed.
    """
    if workers == 1:
        yield from map(make, refs)
        return
    context = multiprocessing.get_context("spawn")  # a forked process must not use CUDA or inherit threads' locks
    waiting = iter(refs)
    with ProcessPoolExecutor(workers, context, initializer=_adopt, initargs=(make,)) as pool:
        under_way: set[Future[Entry]] = {pool.submit(_make, ref) for ref in islice(waiting, 4 * workers)}
        try:
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                under_way |= {pool.submit(_make, ref) for ref in islice(waiting, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise OSError(
                "A worker process died, perhaps for lack of memory. Use fewer workers; the run resumes."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_adopted: dict[str, Callable[[ImageRef], Entry]] = {}  # what this worker process does, sent to it once


def _adopt(make: Callable[[ImageRef], Entry]) -> None:
    _adopted["make"] = make


def _make(ref: ImageRef) -> Entry:
    return _adopted["make"](ref)


def with_progress(entries: Iterable[Entry], total: int, verb: str, show: bool) -> Iterator[Entry]:
    """The entries unchanged, with a progress bar that also counts what is set aside."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not show) as progress:
        task, rejected = progress.add_task(verb, total=total), 0
        for entry in entries:
            yield entry
            rejected += entry["status"] == "quarantined"
            progress.update(task, advance=1, description=f"{verb}, {rejected} set aside" if rejected else verb)

"""From a source to a training set: load, mark, ask, answer, check, write; one journal line for each image.

    generate({"source": "coco", "images": "val2017", "annotations": "instances_val2017.json", "out": "som_val"})

Images are independent of each other and of the worker that takes them, so a run that was killed and resumed, or spread
over processes or a cluster, writes the same bytes as one that was not.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_gen.config import Run, plan_run
from data_gen.duplicates import near_duplicates
from data_gen.engines.processes import batched, in_processes
from data_gen.estimate import estimate
from data_gen.journal import JOURNAL, Entry, Journal
from data_gen.lock import sole_writer
from data_gen.requests import Rejected
from data_gen.sources.base import FileBacked, ImageRef, Source
from data_gen.stages import Fingerprint, empty_entry, file_of, reject
from data_gen.writers import WRITERS
from data_gen.writers.lists import write_lists
from llava_som.viewer.static import write_page

logger = logging.getLogger(__name__)

LOG_EVERY_S = 60
MADE = ("image", "sidecar", "clean_image")  # keys of an entry, or of a page in it, that name a file we wrote
OUTPUTS = ("images", "clean", "data.json", "eval.jsonl", "rejects.jsonl", "summary.json", "index.html", "README.md")


def generate(options: Mapping[str, Any], show_progress: bool = False) -> dict[str, Any]:
    """Make (or finish) the training set that the options describe; returns the content of its summary.json.

    With `dry_run`, nothing is written and what the run would take is returned (see `estimate`).

    Raises:
        ValueError: an option is wrong, or the output folder holds another run or is being written by one. What is
            wrong with single images does not stop the run: they go to rejects.jsonl with the reason.
        OSError: the disk is full, a file may not be written, a server is gone. What is finished stays; the same call
            goes on.
    """
    run = plan_run(options)
    out = run.config.out
    run.source.refuse_output(out)
    refuse_foreign_files(out)
    refs = list(run.source.refs())[: run.config.limit]
    if run.config.dry_run:
        return estimate(run, refs)
    refuse_unwritable(out)
    with sole_writer(out):
        return finish(run, refs, show_progress)


def finish(run: Run, refs: Sequence[ImageRef], show_progress: bool) -> dict[str, Any]:
    """Do what the journal does not have yet, then write the lists; returns the summary."""
    out = run.config.out
    journal = Journal(out / JOURNAL, run.identity())
    repeated = reject_near_duplicates(run, refs, journal)
    todo = [ref for ref in refs if ref.id not in repeated and not is_finished(run, ref, journal.entries.get(ref.id))]
    if before := len(refs) - len(todo) - len(repeated):
        logger.info("%d of %d images were finished before; going on with the rest.", before, len(refs))
    with closing(run.engine.entries(run, todo)) as made:
        for entry in with_progress(made, len(todo), "reading" if run.is_of_pages else "marking", show_progress):
            journal.append(entry)
    if others := len(journal.entries.keys() - {ref.id for ref in refs}):
        told = "%d images of earlier runs are not among the %d of this one: they stay in %s, but not in the lists."
        logger.warning(told, others, len(refs), JOURNAL)
    journal.put_in_order([ref.id for ref in refs])
    entries = [journal.entries[ref.id] for ref in refs]
    summary = write_lists(run, entries)
    write_page(out, entries, run.config.page)
    return summary


def refuse_foreign_files(out: Path) -> None:
    """A ValueError where a new run would write over files that no run of ours made, the source's own images for one."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={out}: is a file. Name a folder, or one that is not there yet.")
    if (out / JOURNAL).exists():
        return
    for name in (*OUTPUTS, *(WRITERS.get(writer).path for writer in WRITERS.names())):
        if (out / name).exists():
            raise ValueError(f"{out / name}: is there already, and not from a run of this tool. Choose another out=.")


def refuse_unwritable(out: Path) -> None:
    """A ValueError where a new run cannot make its folder or a file in it."""
    if (out / JOURNAL).exists():  # what keeps a run from going on says so itself
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ValueError(f"out={out}: cannot be written ({error.strerror}). Choose another out=.") from None


def is_finished(run: Run, ref: ImageRef, entry: Entry | None) -> bool:
    """Whether an earlier run made this record. What was rejected is tried again: the cause may have been mended."""
    if entry is None or entry["rejects"] or entry["file"] != file_of(ref):
        return False
    files = [place[key] for place in (entry, *entry.get("pages", ())) for key in MADE if key in place]
    made = [run.config.out / file for file in files]
    return are_current(made, run.source, ref)


def are_current(made: Sequence[Path], source: Source, ref: ImageRef) -> bool:
    """Whether the files made of an image are there, and none older than the image or an annotation file of its own.

    This is the rule of `make`: an image that was replaced is marked again; one that an older file replaced is not.
    """
    used = [part for part in ref.annotations if isinstance(part, Path)]
    if isinstance(source, FileBacked) and ref.path is not None:
        used.append(source.root / ref.path)
    return max(map(written_at, used), default=0) <= min(map(written_at, made)) > 0


def written_at(file: Path) -> int:
    """When a file was last written, in nanoseconds; 0 when there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def reject_near_duplicates(run: Run, refs: Sequence[ImageRef], journal: Journal) -> set[str]:
    """Journal a reject for each image that is nearly the same as an earlier one, if the run asks; returns their ids.

    This comes before any other work, so that no annotator is paid for a picture it has seen.
    """
    if run.config.near_duplicates is None:
        return set()
    fingerprints = dict(in_processes(Fingerprint(run.source), batched(refs, 16), run.config.workers))
    found = near_duplicates([fingerprints[ref.id] for ref in refs], run.config.near_duplicates)
    for index, first in found.items():
        rejected = Rejected("near-duplicate image", f"of {refs[first].id}")
        journal.append(empty_entry(refs[index]) | {"rejects": [reject(None, rejected)]})
    return {refs[index].id for index in found}


def with_progress(entries: Iterable[Entry], total: int, verb: str, show: bool) -> Iterator[Entry]:
    """The entries unchanged, with a progress bar that also counts what is rejected; in a log file, a line a minute."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as progress:
        task, rejected, told = progress.add_task(verb, total=total), 0, time.monotonic()
        for number, entry in enumerate(entries, 1):
            yield entry
            rejected += bool(entry["rejects"])
            progress.update(task, advance=1, description=f"{verb}, {rejected} rejected" if rejected else verb)
            if show and not console.is_terminal and time.monotonic() - told > LOG_EVERY_S:
                logger.info("%s: %d of %d, %d rejected", verb, number, total, rejected)
                told = time.monotonic()

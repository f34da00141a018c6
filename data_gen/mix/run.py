"""Making a mix: every file is read once into a scratch file on disk, and written from there in the final order.

Memory grows by some hundred bytes a record, whatever the files weigh.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_gen.mix.config import MixConfig, MixFile
from data_gen.mix.reader import FileReader, UniqueIds
from data_gen.mix.spool import Spool, write_lines
from data_gen.writers.files import save_text
from llava_som.files import new_file

T = TypeVar("T")
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def mix(config: MixConfig, show_progress: bool = False) -> dict[str, Any]:
    """Write the mix; beside it <out>.summary.json and, where they have lines, <out>.rejects.jsonl and .missing.jsonl.

    Returns:
        The summary.

    Raises:
        ValueError: a file that cannot be read as a whole; a missing image or repeated id where the config says so; an
            `out` that exists and may not be replaced. Nothing is written then.
        OSError: the disk is full: nothing is written either.
    """
    if config.out.exists() and not config.overwrite:
        raise ValueError(f"out={config.out}: exists. Choose another name, or give overwrite=true to replace it.")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    asides = [config.beside("rejects.jsonl"), config.beside("missing.jsonl")]
    ids = UniqueIds(config.duplicate_ids)
    with ExitStack() as stack:
        spool = Spool(stack.enter_context(tempfile.TemporaryFile(dir=config.out.parent)))
        rejects, missing = (stack.enter_context(new_file(path)) for path in asides)
        bars = stack.enter_context(Progress(*_COLUMNS, disable=not show_progress))
        reports, order = [], array("q")
        for file in config.files:
            reader, start = FileReader(config, file, ids, rejects, missing), len(spool)
            for record in tracked(bars, f"reading {Path(file.path).name}", reader.records()):
                spool.add(record)
            taken = chosen(file, range(start, len(spool)), config.seed)
            reader.report.mixed = len(taken)
            reports.append(reader.report)
            order.extend(taken)
        if config.missing == "error" and any(report.missing for report in reports):
            raise ValueError("\n".join(["Nothing was written.", *missing_lines(config, map(vars, reports))]))
        if config.shuffle:
            Random(config.seed).shuffle(order)
        write_lines(config.out, tracked(bars, f"writing {config.out.name}", spool.lines(order, ids), len(order)))
    for path in asides:
        if not path.stat().st_size:
            path.unlink()
    summary = {
        "records": len(order),
        "image_root": str(config.root),
        "renamed_ids": ids.renamed,
        "files": [vars(report) for report in reports],
    }
    save_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", config.beside("summary.json"))
    return summary


def chosen(file: MixFile, span: range, seed: int) -> list[int]:
    """The places of a file's records that go into the mix: all of them so many times, then a seeded part in order."""
    whole, part = divmod(file.weight, 1)
    picked = Random(f"{seed}:{file.path}").sample(span, round(part * len(span)))
    return [*span] * int(whole) + sorted(picked)


def tracked(bars: Progress, description: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items unchanged, with a bar of their own, which ends full also where nobody knew how many there are."""
    task = bars.add_task(description, total=total)
    yield from bars.track(items, total, task_id=task)
    bars.update(task, total=bars.tasks[task].completed)


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 record", "1,200 records"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def missing_lines(config: MixConfig, files: Iterable[Mapping[str, Any]]) -> list[str]:
    """What to tell of missing images: how many, of which file, some of them, and where they were looked for."""
    lines = []
    for file in files:
        if file["missing"]:
            examples = ", ".join(file["missing_examples"]) + " ..." * (file["missing"] > len(file["missing_examples"]))
            lines.append(
                f"MISSING IMAGES: {file['missing']:,} of {plural(file['read'], 'record')} of {file['path']} left out; "
                f"{file['image_root']} lacks {examples}"
            )
    if lines and config.missing == "report":
        lines.append(f"They are kept whole in {config.beside('missing.jsonl')}; missing=error refuses such a mix.")
    return lines

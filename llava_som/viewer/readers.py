"""The forms a dataset comes in, each read into the rows of `records`.

out/                  of `python -m data_gen`: records.jsonl has every image, rejected ones with the reason
tagged/               of `llava-som tag`: images with sidecars beside them
data.json             LLaVA JSON, JSONL or parquet (a file or a folder of shards) from anywhere; marks are shown where
                      an image has a sidecar
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from llava_som.data.page_record import page_sidecar_path
from llava_som.data.schema import DOCOWL_PLACEHOLDER, IMAGE_PLACEHOLDER, is_docowl
from llava_som.data.sources import DataFile, load_records
from llava_som.images import IMAGE_SUFFIXES, resolve_inside
from llava_som.marks.record import MarkRecord, sidecar_path

from .records import Dataset, Row

_JOURNAL, _DATA, _SIDECARS, _REJECTS = "records.jsonl", "data.json", "*.marks.json", "rejects.jsonl"


def open_dataset(path: str | Path, image_root: str | Path | None = None) -> Dataset:
    """Open whichever form of dataset lies at `path`.

    Args:
        path: an output folder of data_gen, its data.json, a folder of tagged images or of parquet, or a data file.
        image_root: for a data file, the folder its image paths start from; by default the file's own.

    Raises:
        ValueError: there is no dataset, or it is damaged; the message says where.
    """
    dataset = _open(Path(path), None if image_root is None else Path(image_root))
    if not len(dataset):
        raise ValueError(f"{path}: holds no record to show.")
    return dataset


def _open(path: Path, image_root: Path | None) -> Dataset:
    journal = (path if path.is_dir() else path.parent) / _JOURNAL
    if journal.is_file() and image_root is None and (path.is_dir() or path.name in (_DATA, _JOURNAL)):
        return Dataset(_name(journal.parent), journal.parent, _journal_rows(journal))
    if path.is_dir() and (path / _DATA).is_file():
        path = path / _DATA
    elif path.is_dir() and not any(path.glob("*.parquet")):
        return _open_tagged(path)
    root = DataFile(str(path)).root if image_root is None else image_root
    return Dataset(_name(path), root, _data_rows(path, root))


def _open_tagged(folder: Path) -> Dataset:
    sidecars = sorted(folder.rglob(_SIDECARS))
    if not sidecars:
        raise ValueError(
            f"{folder}: no dataset: there is no {_JOURNAL} (from `llava-som synth`), no {_DATA}, no .parquet file and "
            f"no {_SIDECARS} (from `llava-som tag`) in it.{_hint_at_run(folder)}"
        )
    rows = [_tagged_row(sidecar, folder) for sidecar in sidecars]
    return Dataset(
        _name(folder), folder, sorted([*rows, *_rejected_rows(folder / _REJECTS)], key=lambda row: row["id"])
    )


def _name(path: Path) -> str:
    return path.resolve().name or str(path)


def _hint_at_run(path: Path) -> str:
    """Where to look instead, for a part of a run."""
    run = path.resolve().parent
    return f" It is part of a run: show {run}" if (run / _JOURNAL).is_file() else ""


def _row(record_id: str, **known: Any) -> Row:
    empty: Row = {"file": "", "images": [], "sidecar": None, "tags": 0, "sources": [], "names": []}
    return {"id": record_id, **empty, "samples": [], "rejects": [], **known}


def _image(label: str, path: str) -> dict[str, str]:
    return {"label": label, "path": path}


def _page(label: str, path: str, sidecar: str) -> dict[str, str]:
    """An image that is a page: its words are in the sidecar."""
    return {"label": label, "path": path, "page": sidecar}


def run_dataset(out: Path, entries: Iterable[Mapping[str, Any]]) -> Dataset:
    """A run of data_gen that is at hand: its folder and its journal entries, in the order to show them in."""
    return Dataset(_name(out), out, (_journal_row(entry, None) for entry in entries))


def _journal_rows(journal: Path) -> Iterator[Row]:
    """In the order of the file; of two entries with one id the later counts. A line without its end is left out."""
    run: Mapping[str, Any] = {}
    lines: dict[str, bytes] = {}
    with journal.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                if "id" in entry:
                    lines[entry["id"]] = line
                else:
                    run = entry["run"]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{journal}: line {number} is damaged ({error!r}). Delete the line.") from None
    for line in lines.values():
        yield _journal_row(json.loads(line), _source_name(run))


def _source_name(run: Mapping[str, Any]) -> str | None:
    """The source of a run's identity, which stands for that of each record where the entries do not say."""
    source = run.get("source")
    return source.get("name") if isinstance(source, Mapping) else source


def _journal_row(entry: Mapping[str, Any], run_source: str | None) -> Row:
    paths = {"tagged": entry.get("image"), "clean": entry.get("clean_image")}
    images = [_image(label, path) for label, path in paths.items() if path]
    images += [
        _page(f"page {number}", page["image"], page["sidecar"])
        for number, page in enumerate(entry.get("pages", ()), start=1)
    ]
    labels = {image["path"]: image["label"] for image in images}
    samples = [
        {
            "id": sample["id"],
            "recipe": sample.get("task", sample.get("recipe")),
            "shows": labels.get(_image_files(sample)[0]) if len(_image_files(sample)) == 1 else None,
            "turns": _turns(sample),
        }
        for sample in entry.get("samples", [])
    ]
    return _row(
        entry["id"],
        file=entry.get("file", ""),
        images=images,
        sidecar=entry.get("sidecar"),
        tags=entry.get("marks", 0),
        sources=entry.get("sources", [run_source] if run_source else []),
        samples=samples,
        rejects=[_reject(reject) for reject in entry.get("rejects", [])],
    )


def _reject(given: Mapping[str, Any]) -> dict[str, Any]:
    """One reject; a reason begins with its kind, where the kind has no field of its own."""
    reason = str(given.get("reason", ""))
    kind = given.get("kind") or reason.partition(":")[0] or "rejected"
    return {"recipe": given.get("recipe"), "kind": kind, "reason": reason, "answer": given.get("answer") or ""}


def _tagged_row(sidecar: Path, folder: Path) -> Row:
    """A marked image; a damaged sidecar is kept as a reject, for the page to show."""
    stem = sidecar.name.removesuffix(_SIDECARS[1:])
    at = sidecar.parent.relative_to(folder)
    record_id = (at / stem).as_posix()
    try:
        record = MarkRecord.load(sidecar)
    except ValueError as error:
        return _row(record_id, file=str(sidecar), rejects=[_reject({"kind": "unreadable sidecar", "reason": error})])
    suffixes = (suffix for suffix in sorted(IMAGE_SUFFIXES) if sidecar.with_name(stem + suffix).exists())
    image = (at / (record.image or stem + next(suffixes, ".jpg"))).as_posix()
    return _row(record_id, file=image, images=[_image("tagged", image)], **_marks_of(record, at / sidecar.name))


def _marks_of(record: MarkRecord, sidecar: Path) -> dict[str, Any]:
    return {
        "sidecar": str(sidecar),
        "tags": len(record.marks),
        "sources": sorted({region.source for region in (*record.marks, *record.skipped)}),
        "names": sorted({mark.category for mark in record.marks if mark.category}),
    }


def _rejected_rows(rejects: Path) -> Iterator[Row]:
    """What `tag` could not mark."""
    for record in load_records(rejects) if rejects.is_file() else ():
        yield _row(str(record["id"]), file=str(record.get("file", "")), rejects=[_reject(record)])


def _data_rows(path: Path, root: Path) -> Iterator[Row]:
    """The records of a data file, with their marks where a sidecar lies beside the (first) image."""
    names_in = cache(_names_in)
    records = load_records(path)
    first = list(islice(records, 1))
    _refuse_list_without_conversations(path, first)
    for record in chain(first, records):
        files = _image_files(record)
        labels = ["image"] if len(files) == 1 else [f"image {number}" for number in range(1, len(files) + 1)]
        sample = {"id": str(record["id"]), "recipe": _asked(record), "shows": None, "turns": _turns(record)}
        yield _row(
            str(record["id"]),
            file=files[0] if files else "",
            images=[
                _page(label, file, sidecar) if (sidecar := _page_beside(file, root, names_in)) else _image(label, file)
                for label, file in zip(labels, files, strict=True)
            ],
            samples=[sample],
            **(_marks_beside(files[0], root, names_in) if files else {}),
        )


def _asked(record: Mapping[str, Any]) -> Any:
    """What a record of a data file says was asked, in our words or DocOwl's."""
    return record.get("task", record.get("recipe", record.get("task_name")))


def _refuse_list_without_conversations(path: Path, first: Sequence[Mapping[str, Any]]) -> None:
    """A ValueError where the first record says nothing: every card would be empty."""
    for record in first:
        if not {"conversations", "messages"} & record.keys():
            what = "holds records without conversations"
            if "sidecar" in record:
                what = "lists images and their sidecars, for `llava-som eval`, and holds no conversations"
            elif "reason" in record:
                what = "lists what was rejected, and holds no conversations"
            raise ValueError(f"{path}: {what}. To look at the images and their marks, show {path.parent}")


def _marks_beside(image: str, root: Path, names_in: Callable[[Path], frozenset[str]]) -> dict[str, Any]:
    sidecar = sidecar_path(image)
    if sidecar.name not in names_in((root / sidecar).parent):
        return {}
    try:
        return _marks_of(MarkRecord.load(resolve_inside(sidecar, root)), sidecar)
    except ValueError:  # opening the record says what is wrong with it
        return {"sidecar": str(sidecar)}


def _page_beside(image: str, root: Path, names_in: Callable[[Path], frozenset[str]]) -> str | None:
    sidecar = page_sidecar_path(image)
    return sidecar.as_posix() if sidecar.name in names_in((root / sidecar).parent) else None


def _names_in(folder: Path) -> frozenset[str]:
    """The files of a folder: listing it once is faster than asking for each of its files."""
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()


def _image_files(record: Mapping[str, Any]) -> list[str]:
    files = record.get("image", record.get("images"))
    listed = [files] if isinstance(files, str) else files if isinstance(files, list) else []
    return [str(file) for file in listed]


def _turns(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The turns of a conversation in LLaVA's or the chat form; what is neither is shown as it is written."""
    given = record.get("conversations", record.get("messages")) or []
    turns = [_turn(turn) for turn in (given if isinstance(given, list) else [given])]
    if is_docowl(record):
        turns = [turn | {"value": turn["value"].replace(DOCOWL_PLACEHOLDER, IMAGE_PLACEHOLDER)} for turn in turns]
    return turns


def _turn(turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        return {"from": "unknown", "value": str(turn)}
    speaker = str(turn.get("from", turn.get("role", "unknown")))
    content = turn.get("value", turn.get("content"))
    parts = content if isinstance(content, list) else [content]
    return {"from": {"user": "human", "assistant": "gpt"}.get(speaker, speaker), "value": "".join(map(_part, parts))}


def _part(part: Any) -> str:
    """A content part as text."""
    if isinstance(part, Mapping):
        return IMAGE_PLACEHOLDER if part.get("type") == "image" else str(part.get("text", part))
    return part if isinstance(part, str) else str(part)

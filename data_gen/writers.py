"""How output reaches the disk: every file whole or not at all, the lists rebuilt from the journal in a fixed order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from data_gen.journal import Entry
from llava_som.images import resolve_inside
from llava_som.marks.marker import MarkedImage
from llava_som.marks.record import sidecar_path
from llava_som.quarantine import Quarantine

PILLOW_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("JPEG", {"quality": 90, "subsampling": 0}),  # full colour resolution keeps the edges of small digits
    ".png": ("PNG", {"compress_level": 1}),
}


def save_image(image: Image.Image, folder: Path, name: str) -> Path:
    """Write `folder / name` (.jpg or .png) at once and return its path; a name outside the folder is an ImageError."""
    path = resolve_inside(name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    file_format, parameters = PILLOW_FORMATS[path.suffix]
    unfinished = _unfinished(path)
    image.save(unfinished, format=file_format, **parameters)
    unfinished.replace(path)
    return path


def save_text(text: str, path: Path) -> None:
    """Write a text file at once; what cannot be UTF-8 (in a file name) becomes a backslash escape, as JSON reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(path)
    unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
    unfinished.replace(path)


def save_marked(marked: MarkedImage, folder: Path, name: str) -> Path:
    """Write the sidecar, then the marked image beside it, so that an image without a sidecar is never ours."""
    path = resolve_inside(name, folder)
    record = marked.record.model_copy(update={"image": path.name})
    save_text(record.to_json(), sidecar_path(path))
    return save_image(marked.image, folder, name)


def write_lists(out: Path, entries: Sequence[Entry], identity: dict[str, Any]) -> dict[str, Any]:
    """Write data.json, eval.jsonl, quarantine.jsonl and summary.json in the order of `entries`; returns the summary."""
    records = [entry for entry in entries if entry["status"] == "ok"]
    rejected = [entry for entry in entries if entry["status"] == "quarantined"]
    samples = ",\n".join(json.dumps(entry["sample"], ensure_ascii=False) for entry in records)
    save_text(f"[\n{samples}\n]\n", out / "data.json")
    evaluation = [
        {key: entry[key] for key in ("id", "image", "clean_image", "sidecar") if key in entry} for entry in records
    ]
    save_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in evaluation), out / "eval.jsonl")
    _write_quarantine(out / "quarantine.jsonl", rejected)
    summary = summarize(records, rejected)
    save_text(json.dumps({**summary, "run": identity}, indent=1, ensure_ascii=False) + "\n", out / "summary.json")
    return summary


def summarize(records: Sequence[Entry], rejected: Sequence[Entry]) -> dict[str, Any]:
    """Counts of a run: images, records, marks, and what was set aside by reason."""
    marks = [entry["marks"] for entry in records]
    return {
        "images": len(records) + len(rejected),
        "records": len(records),
        "marks": sum(marks),
        "marks_per_image": {"min": min(marks), "mean": round(sum(marks) / len(marks), 2), "max": max(marks)}
        if marks
        else {},
        "regions_without_mark": sum(entry["skipped"] for entry in records),
        "quarantined": len(rejected),
        "quarantined_by_reason": dict(Counter(entry["kind"] for entry in rejected).most_common()),
    }


def _write_quarantine(path: Path, rejected: Sequence[Entry]) -> None:
    path.unlink(missing_ok=True)
    quarantine = Quarantine(path)
    for entry in rejected:
        quarantine.add(entry["id"], entry["file"], entry["reason"])


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")

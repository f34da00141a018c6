"""Writing small data sets in the layout of DocDownstream: what each task's `example` module says its set with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from llava_som.data.schema import DOCOWL_PLACEHOLDER


def row(pages: Sequence[str], asked: str, answer: str, task_name: str = "qa_sft") -> dict[str, Any]:
    """A row of a JSONL: the texts of its pages, the question and the reference answer."""
    content = DOCOWL_PLACEHOLDER * len(pages) + asked
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"pages": pages, "messages": turns, "task_name": task_name}


def write_rows(folder: Path, file: str, rows: Sequence[dict[str, Any]]) -> None:
    """Draw the pages of all rows and write the JSONL `folder/file`."""
    lines = []
    for number, line in enumerate(rows):
        names = [f"imgs/{Path(file).stem}/{number}_{page}.png" for page in range(len(line["pages"]))]
        for name, text in zip(names, line["pages"], strict=True):
            _draw(text, folder / name)
        lines.append({"image": names, **{key: value for key, value in line.items() if key != "pages"}})
    write_jsonl(folder / file, lines)


def write_due(
    folder: Path, dataset: str, asked: Iterable[tuple[str, str]], values: Mapping[str, Mapping[str, list[list[str]]]]
) -> None:
    """Write the meta files of a DUE set.

    Args:
        folder: of the data set.
        dataset: its name in file names.
        asked: document and question of every row.
        values: documents, their keys or questions, and the values with all ways to write each.
    """
    meta = folder / "meta" / dataset / "test"
    truth = [(name, json.dumps({"gt_parses": [{"question": question}]})) for name, question in asked]
    write_jsonl(
        meta / "metadata.jsonl", [{"file_name": f"{name}.pdf.png", "ground_truth": text} for name, text in truth]
    )
    documents = [
        {
            "name": name,
            "annotations": [
                {"key": key, "values": [{"value": ways[0], "value_variants": ways} for ways in options]}
                for key, options in keys.items()
            ],
        }
        for name, keys in values.items()
    ]
    write_jsonl(meta / "document.jsonl", documents)


def write_references(folder: Path, file: str, records: Sequence[dict[str, Any]]) -> None:
    """Write `folder/file`, which holds the references of a set of several pages."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"data": records}), encoding="utf-8")


def write_jsonl(file: Path, lines: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, folders made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _draw(text: str, file: Path) -> None:
    page = Image.new("RGB", (240, 120), "white")
    ImageDraw.Draw(page).text((8, 8), text, fill="black")
    file.parent.mkdir(parents=True, exist_ok=True)
    page.save(file)

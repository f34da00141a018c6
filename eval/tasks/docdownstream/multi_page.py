"""DocDownstream-2.0: questions about several pages, with references in FOLDER/meta/<set>/, in the questions' order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.docowl_jsonl import folder_of, question
from eval.metrics.text import one_line

if TYPE_CHECKING:
    from datasets import Dataset


def read_records(rows: Dataset, dataset: str, files: Sequence[str], fields: Sequence[str]) -> list[dict[str, Any]]:
    """The "data" of the first of `files` that is in the set's meta folder.

    Raises:
        ValueError: none of them is there, it is not such a file, or a record lacks one of `fields`.
    """
    meta = folder_of(rows) / "meta" / dataset
    file = next((meta / name for name in files if (meta / name).is_file()), None)
    if file is None:
        raise ValueError(f"{meta}: has no {' or '.join(files)} to read the references from. Unpack the meta folder.")
    records = _data(file)
    for number, record in enumerate(records, 1):
        if lacking := [name for name in fields if name not in record]:
            raise ValueError(f"{file}: record {number} has no {' and no '.join(lacking)}. Fetch the file again.")
    return records


def check_order(rows: Dataset, records: Sequence[dict[str, Any]], dataset: str) -> None:
    """Raise a ValueError unless the records are about the rows' questions, one by one."""
    if len(records) != len(rows):
        raise ValueError(
            f"{dataset}: {len(records)} references for {len(rows)} questions. Fetch both files from one release."
        )
    for number, (row, record) in enumerate(zip(rows, records, strict=True), 1):
        if one_line(record["question"]) not in one_line(question(row)):
            raise ValueError(
                f"{dataset}: reference {number} is about {record['question']!r}, question {number} is "
                f"{question(row)!r}. Fetch both files from one release."
            )


def _data(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: is not JSON ({error}). Fetch the file again.") from None
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise ValueError(f'{file}: has no list "data". Fetch the file again.')
    return content["data"]

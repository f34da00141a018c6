"""References of the sets that come from the DUE benchmark, in FOLDER/meta/<set>/test/.

`document.jsonl` has a line {"name", "annotations": [{"key", "values": [{"value", "value_variants"}]}]} for every
document; `metadata.jsonl` says, line by line with the questions, which document each is about and how DUE words it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.docowl_jsonl import folder_of
from eval.json_lines import read_lines

if TYPE_CHECKING:
    from datasets import Dataset

Annotations = dict[str, list[list[str]]]
"""Keys of a document (fields or questions) with their values; a value is the list of ways to write it."""

_KEY_LENGTH = 100  # as far as the released evaluator compares questions


def with_references(rows: Dataset, dataset: str) -> Dataset:
    """Question answering: a column "references", the values of each row's question, each with its ways to be written.

    Raises:
        ValueError: files of `meta` are missing or of other data.
    """
    documents = annotations(rows, dataset)
    references = []
    for document, question in asked(rows, dataset):
        values = documents.get(document, {}).get(question[:_KEY_LENGTH])
        if not values:
            raise ValueError(
                f"{dataset}: document.jsonl has no answer to {question!r} about {document!r}, which metadata.jsonl "
                "asks. Fetch both files from one release."
            )
        references.append(values)
    return rows.add_column("references", references)


def asked(rows: Dataset, dataset: str) -> list[tuple[str, str]]:
    """Each row's document and question as DUE names them."""
    lines = _meta_lines(rows, dataset, "metadata.jsonl")
    if len(lines) != len(rows):
        raise ValueError(
            f"{dataset}: metadata.jsonl has {len(lines)} lines for {len(rows)} questions; they go line by line. "
            "Fetch both files from one release."
        )
    return [_question(line, place) for place, line in lines]


def annotations(rows: Dataset, dataset: str) -> dict[str, Annotations]:
    """The annotations of every document; a ValueError names the line that holds none."""
    return dict(_document(line, place) for place, line in _meta_lines(rows, dataset, "document.jsonl"))


def _question(line: dict[str, Any], place: str) -> tuple[str, str]:
    try:
        question = json.loads(line["ground_truth"])["gt_parses"][0]["question"]
        return Path(line["file_name"]).name.split(".pdf")[0], question
    except (KeyError, IndexError, TypeError, json.JSONDecodeError):
        raise ValueError(
            f'{place}: must have "file_name" and, in "ground_truth", a question. Fetch it again.'
        ) from None


def _document(line: dict[str, Any], place: str) -> tuple[str, Annotations]:
    try:
        return line["name"], {
            annotation["key"][:_KEY_LENGTH]: [
                [value["value"], *value.get("value_variants", [])] for value in annotation["values"]
            ]
            for annotation in line["annotations"]
        }
    except (KeyError, TypeError):
        raise ValueError(f'{place}: must have "name" and "annotations" of keys and values. Fetch it again.') from None


def _meta_lines(rows: Dataset, dataset: str, name: str) -> list[tuple[str, dict[str, Any]]]:
    file = folder_of(rows) / "meta" / dataset / "test" / name
    if not file.is_file():
        raise ValueError(f"{file}: no such file, the references are read from it. Unpack the data set's meta folder.")
    return list(read_lines(file))

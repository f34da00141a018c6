"""Rows of the JSONL files of mPLUG-DocOwl: DocDownstream-1.0 and -2.0, DocLocal4K.

A row is {"image": [paths], "messages": [turns], "task_name", "dataset_name"}: one "<|image|>" in the turns for every
page, the last turn the reference answer. Staging (`staged_data.stage_data`) adds "root", the folder of the paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llava_som.data.schema import DOCOWL_PLACEHOLDER
from llava_som.images import open_image

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL import Image


def pages(row: dict[str, Any]) -> list[Image.Image]:
    """The images of a row, in order."""
    return [open_image(path, root=row["root"]) for path in row["image"]]


def question(row: dict[str, Any]) -> str:
    """What is asked, an instruction first where the row has one; the pages are given before the text.

    Raises:
        ValueError: the row has another number of placeholders than images, or asks several questions.
    """
    if any(turn["role"] == "assistant" for turn in row["messages"][:-1]):
        raise ValueError(f"{row['image'][:1]}: asks several questions, and one answer is scored. Write a row for each.")
    asked = [turn["content"] for turn in row["messages"][:-1]]
    placeholders = sum(text.count(DOCOWL_PLACEHOLDER) for text in asked)
    if placeholders != len(row["image"]):
        raise ValueError(
            f"{row['image'][:1]}: the question has {placeholders} {DOCOWL_PLACEHOLDER} for {len(row['image'])} images. "
            "Write one for each image."
        )
    return "\n".join(text.replace(DOCOWL_PLACEHOLDER, "").strip() for text in asked)


def reference(row: dict[str, Any]) -> str:
    """The last turn: the answer as it is written in the file.

    Raises:
        ValueError: the row does not end with a turn of the assistant.
    """
    last = row["messages"][-1]
    if last["role"] != "assistant":
        raise ValueError(
            f"{row['image'][:1]}: its last turn is of the {last['role']}, the reference answer is missing."
        )
    return last["content"]


def folder_of(rows: Dataset) -> Path:
    """The data set's folder, which data= names."""
    return Path(rows[0]["root"])

"""What the som_listing YAML files name: a row of eval.jsonl becomes a question, an answer becomes scores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.tasks.som_listing.score import score_listing, tag_names
from llava_som.images import open_image, resolve_inside
from llava_som.marks.labels import rank
from llava_som.marks.names import spelled_out
from llava_som.marks.record import MarkRecord

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL import Image

# Sentences that data_gen's listing recipe draws from, so that a model trained on them knows the words. They hold
# wherever the tags stand, on their things or beside them.
QUESTION = "What do the numbered tags on this image stand for? Cover all of them in order."
QUESTION_FOR_LETTERS = "One after another, what is marked with each of the letters you can see?"

log = logging.getLogger(__name__)


def marked_documents(rows: Dataset) -> Dataset:
    """The rows whose image has marks: without any there is nothing to list. A mark without a name is an error."""
    records = [read_record(row) for row in rows]
    kept = [index for index, record in enumerate(records) if record.marks and tag_names(record)]
    if not kept:
        raise ValueError("No image of the evaluation file has a mark, so there is nothing to list.")
    if skipped := len(rows) - len(kept):
        log.warning("som_listing: %d of %d images have no marks and are left out.", skipped, len(rows))
    return rows.select(kept)


def documents_with_clean_image(rows: Dataset) -> Dataset:
    """The same, when every row has the image without marks."""
    for row in rows:
        if not row.get("clean_image"):
            raise ValueError(f"{row['image']}: its row has no clean_image. Write the data with untagged=true.")
    return marked_documents(rows)


def tagged_image(row: dict[str, Any]) -> list[Image.Image]:
    """The image with its marks drawn."""
    return [open_image(row["image"], root=row["root"])]


def untagged_image(row: dict[str, Any]) -> list[Image.Image]:
    """The same image without marks: what can be answered without seeing the numbers."""
    return [open_image(row["clean_image"], root=row["root"])]


def question(row: dict[str, Any]) -> str:
    """The instruction, the same for every image with numbers, and for every one with letters."""
    return QUESTION if all(mark.label.isdigit() for mark in read_record(row).marks) else QUESTION_FOR_LETTERS


def reference(row: dict[str, Any]) -> str:
    """The perfect answer, one line per mark that begins with what its tag says."""
    marks = sorted(read_record(row).marks, key=lambda mark: rank(mark.label))
    return "\n".join(f"{mark.label}. {spelled_out(mark.category or '')}" for mark in marks)


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """The metrics of `score.ListingScore` for one answer."""
    return score_listing(answers[0], read_record(row)).metrics()


def read_record(row: dict[str, Any]) -> MarkRecord:
    """The sidecar of a row."""
    return MarkRecord.load(resolve_inside(row["sidecar"], Path(row["root"])))

"""mPLUG-DocOwl's JSONL: messages with `<|image|>` for every image, as its published training sets and code use them.

    {"id", "image": [paths], "messages": [{"role", "content"}], "task_name", "dataset_name"}

One object a line; as many `<|image|>` as paths, in their order. Training and mixing here read it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.writers import WRITERS
from data_gen.writers.base import StoredSample, Writer
from data_gen.writers.files import save_json_lines
from llava_som.data.schema import DOCOWL_PLACEHOLDER, IMAGE_PLACEHOLDER, ROLES


@WRITERS.register("docowl")
@dataclass(frozen=True, kw_only=True)
class DocOwlWriter(Writer):
    """One JSONL file in the form of mPLUG-DocOwl's training data; images stay where they are."""

    path = "docowl.jsonl"
    pattern = "docowl.jsonl"
    loading = 'datasets.load_dataset("json", data_files="OUT/docowl.jsonl", split="train")'
    takes_pages = True

    def write(self, out: Path, samples: Iterable[StoredSample]) -> None:
        """Write docowl.jsonl, its image paths relative to the output folder."""
        save_json_lines(map(docowl_record, samples), out / self.path)


def docowl_record(sample: StoredSample) -> dict[str, Any]:
    """A sample as one of DocOwl's; `task_name` is its task, or its recipe where that has only one, with `_sft`."""
    messages = [
        {"role": ROLES[turn["from"]], "content": turn["value"].replace(f"{IMAGE_PLACEHOLDER}\n", DOCOWL_PLACEHOLDER)}
        for turn in sample.conversations
    ]
    return {
        "id": sample.id,
        "image": list(sample.images),
        "messages": messages,
        "task_name": f"{sample.task or sample.recipe}_sft",
        "dataset_name": sample.source,
    }

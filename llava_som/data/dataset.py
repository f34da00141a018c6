"""Records to model inputs: a dataset in which a bad record is set aside, counted, and replaced by the next good one.

Labels come from the chat template's assistant mask and from nowhere else.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from llava_som.data.record_images import open_record_image
from llava_som.data.schema import ImagePart, Sample, TextPart
from llava_som.data.sources import DataFile, RecordTable, load_records
from llava_som.quarantine import Quarantine

if TYPE_CHECKING:
    from PIL.Image import Image

    from llava_som.processing import LlavaSomProcessor

IGNORE_INDEX = -100
_CHARACTERS_PER_TOKEN = 4

logger = logging.getLogger(__name__)


class ConversationDataset(Dataset[dict[str, Any]]):
    """Conversations as `input_ids`, `labels` and `pixel_values`.

    Args:
        files: read in this order, one after the other.
        processor: its chat template needs `{% generation %}` markers.
        max_length: a record of more tokens is set aside; nothing is ever cut, so no image span is cut through.
        quarantine: where unusable records go.

    Raises:
        ValueError: a file that does not exist or cannot be read as a whole, or files without any record.
    """

    def __init__(
        self, files: Sequence[DataFile], processor: LlavaSomProcessor, max_length: int, quarantine: Quarantine
    ) -> None:
        self.processor = processor
        self.max_length = max_length
        self.quarantine = quarantine
        self._files = list(files)
        self._starts: list[int] = []
        self._records = RecordTable(self._read_all())
        if not len(self._records):
            raise ValueError(f"No record in {', '.join(file.path for file in files)}.")

    def _read_all(self) -> Iterator[dict[str, Any]]:
        count = 0
        for file in self._files:
            self._starts.append(count)
            for record in load_records(file.path, self.quarantine):
                count += 1
                yield record

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The inputs of record `index` or of the next usable one, cyclically: the same on every rank, in every epoch.

        Raises:
            ValueError: not a single record is usable.
        """
        index = range(len(self))[index]
        for candidate in (*range(index, len(self)), *range(index)):
            try:
                return self.encode(candidate)
            except ValueError as error:
                self.set_aside(candidate, error)
                file = self.file_of(candidate).path
                logger.warning("%s: record %s: %s The next record takes its place.", file, candidate, error)
        raise ValueError(f"None of the {len(self)} records is usable; the reasons are in {self.quarantine.path}.")

    def file_of(self, index: int) -> DataFile:
        """The file that record `index` was read from."""
        return self._files[bisect.bisect_right(self._starts, index) - 1]

    def sample(self, index: int) -> Sample:
        """Record `index`, checked; a ValueError says which rule it breaks."""
        return Sample.from_record(self._records[index])

    def set_aside(self, index: int, reason: Exception | str) -> None:
        """Put record `index` into quarantine."""
        self.quarantine.add(self._records[index]["id"], self.file_of(index).path, reason)

    def encode(self, index: int) -> dict[str, Any]:
        """The inputs of record `index` itself.

        Returns:
            `sample_id`; `input_ids` and `labels`, lists of equal length, -100 outside the answers; `pixel_values`
            `[N, 3, S, S]` and, for a model that reads tiles, `image_grids` `[P, 2]`, None for a record without images.

        Raises:
            ValueError: a broken rule of the schema, an image that cannot be opened, too many tokens, none to train.
        """
        sample = self.sample(index)
        root = self.file_of(index).root
        conversation = _with_images(sample, [open_record_image(file, root) for file in sample.images])
        inputs: Any = self.processor.apply_chat_template(
            [conversation], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        input_ids, trained = list(inputs["input_ids"][0]), inputs["assistant_masks"][0]
        if len(input_ids) > self.max_length:
            raise ValueError(f"is {len(input_ids)} tokens long, max_length is {self.max_length}.")
        if not any(trained):
            raise ValueError("has no trained token. Does the chat template mark answers with {% generation %}?")
        pixel_values, grids = inputs.get("pixel_values"), inputs.get("image_grids")
        return {
            "sample_id": sample.id,
            "input_ids": input_ids,
            "labels": [token if learn else IGNORE_INDEX for token, learn in zip(input_ids, trained, strict=True)],
            "pixel_values": None if pixel_values is None else torch.from_numpy(np.stack(pixel_values)),
            "image_grids": None if grids is None else torch.as_tensor(grids),
        }

    def estimated_lengths(self) -> list[int]:
        """Tokens of each record, estimated from its characters and number of images; for grouping by length."""
        image_tokens = self.processor.typical_image_tokens
        return [_estimated_length(self._records[index], image_tokens) for index in range(len(self))]


def _with_images(sample: Sample, images: Iterable[Image]) -> list[Any]:
    """The messages of a sample as the chat template takes them, each image in its place."""
    waiting = iter(images)

    def part_with_image(part: TextPart | ImagePart) -> dict[str, Any]:
        return {"type": "image", "image": next(waiting)} if isinstance(part, ImagePart) else part.model_dump()

    return [
        {"role": turn.role, "content": [part_with_image(part) for part in turn.content]} for turn in sample.messages
    ]


def _estimated_length(record: dict[str, Any], image_tokens: int) -> int:
    files = record.get("image", record.get("images"))
    images = len(files) if isinstance(files, list) else int(files is not None)
    characters = len(str(record.get("conversations", record.get("messages"))))
    return characters // _CHARACTERS_PER_TOKEN + image_tokens * images

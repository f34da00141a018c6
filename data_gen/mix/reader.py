"""From one file to records of the mix: checked, in LLaVA's form, with images that are there and ids of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

from data_gen.journal import line_of
from data_gen.mix.config import MixConfig, MixFile
from llava_som.data.record_images import STORED
from llava_som.data.schema import IMAGE_PLACEHOLDER, Message, Sample
from llava_som.data.sources import load_records
from llava_som.images import resolve_inside


@dataclass
class FileReport:
    """What became of one file's records."""

    path: str
    image_root: str
    read: int = 0
    text_only: int = 0
    inside_parquet: int = 0
    rejected: int = 0
    missing: int = 0
    missing_examples: list[str] = field(default_factory=list)
    mixed: int = 0


class FileReader:
    """Reads one file, checks its records and rewrites them for the mix; what cannot be mixed is set aside."""

    def __init__(
        self, config: MixConfig, file: MixFile, ids: UniqueIds, rejects: IO[bytes], missing: IO[bytes]
    ) -> None:
        self.config, self.file, self.ids = config, file, ids
        self._root, self._mix_root = file.root, config.root
        self.report = FileReport(file.path, str(self._root))
        self._is_elsewhere = not self._root.is_relative_to(self._mix_root)
        self._rejects, self._missing = rejects, missing
        self._folder = lru_cache(maxsize=4096)(self._resolve_folder)

    def records(self) -> Iterator[dict[str, Any]]:
        """The usable records in LLaVA's form: images relative to the mix's root, ids unique and text."""
        for record in islice(load_records(self.file.path, self), self.file.limit):
            self.report.read += 1
            try:
                sample = Sample.from_record(record)
                images = [self._locate(image) for image in sample.images]
            except ValueError as error:
                self._reject(record["id"], error, record)
                continue
            self._refuse_other_root(sample)
            absent = [image for image, (_, exists) in zip(sample.images, images, strict=True) if not exists]
            if absent:
                self._set_missing(record, absent)
                continue
            self.report.text_only += not images
            self.report.inside_parquet += any(map(STORED.fullmatch, sample.images))
            yield llava_form(record, sample, self.ids.unique(sample.id, self.file.path), [path for path, _ in images])

    def add(self, record_id: str, file: str | Path, reason: str | Exception) -> None:
        """Take a line that is no record, as `load_records` hands it over."""
        self.report.read += 1
        self._reject(record_id, reason)

    def _reject(self, record_id: Any, reason: str | Exception, record: Mapping[str, Any] | None = None) -> None:
        self.report.rejected += 1
        line = {"id": str(record_id), "file": self.file.path, "reason": str(reason)}
        self._rejects.write(line_of(line if record is None else {**line, "record": record}))

    def _set_missing(self, record: Mapping[str, Any], absent: Sequence[str]) -> None:
        """Count the record and keep it as it was read: once its images are there, such lines are records to mix."""
        self.report.missing += 1
        examples = self.report.missing_examples
        if len(examples) < 3 and absent[0] not in examples:
            examples.append(absent[0])
        if self.config.missing == "report":
            self._missing.write(line_of({**record, "file": self.file.path, "missing": absent}))

    def _refuse_other_root(self, sample: Sample) -> None:
        if sample.images and self._is_elsewhere:
            raise ValueError(
                f"{self.file.path}: its images are in {self._root}, outside image_root={self._mix_root}. Give a "
                "folder that holds the images of all files."
            )

    def _locate(self, image: str) -> tuple[str, bool]:
        """The image's path from the mix's root, and whether it is there."""
        folder, name = os.path.split(image)
        inside, prefix = self._folder(folder)
        stored = STORED.fullmatch(name)
        file = os.path.join(inside, stored[1] if stored else name)
        return f"{prefix}{name}", self.config.missing == "keep" or os.path.isfile(file)

    def _resolve_folder(self, folder: str) -> tuple[str, str]:
        """A folder of images as an absolute path, and what comes before a name in it in the mix."""
        inside = resolve_inside(folder, self._root)
        prefix = Path(os.path.relpath(inside, self._mix_root)).as_posix()
        return str(inside), "" if prefix == "." else f"{prefix}/"


class UniqueIds:
    """Hands out each id once. Of an id that was seen, only a hash is remembered."""

    def __init__(self, policy: str) -> None:
        self.policy, self.renamed = policy, 0
        self._seen: set[int] = set()
        self._next: dict[str, int] = {}

    def unique(self, record_id: str, file: str) -> str:
        """The id, or `<id>#2` and so on where it was seen; a ValueError where the policy says so."""
        if hash(record_id) not in self._seen:
            self._seen.add(hash(record_id))
            return record_id
        if self.policy == "error":
            raise ValueError(f"{file}: the id {record_id!r} occurs again. duplicate_ids=rename makes it {record_id}#2.")
        self.renamed += 1
        return self.copy(record_id)

    def copy(self, record_id: str) -> str:
        """The next free `<id>#<number>`."""
        number = self._next.get(record_id, 2)
        while hash(name := f"{record_id}#{number}") in self._seen:
            number += 1
        self._seen.add(hash(name))
        self._next[record_id] = number + 1
        return name


def llava_form(record: Mapping[str, Any], sample: Sample, record_id: str, images: Sequence[str]) -> dict[str, Any]:
    """A record with this id and these images; chat messages become LLaVA's conversations, other fields stay."""
    others = {
        key: value for key, value in record.items() if key not in ("id", "image", "images", "conversations", "messages")
    }
    image = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    turns = record.get("conversations") or [llava_turn(message) for message in sample.messages]
    return {"id": record_id, **image, "conversations": turns, **others}


def llava_turn(message: Message) -> dict[str, str]:
    """A chat message as a turn, `<image>` on a line of its own."""
    speaker = {"user": "human", "assistant": "gpt"}.get(message.role, message.role)
    parts = (part.text if part.type == "text" else f"{IMAGE_PLACEHOLDER}\n" for part in message.content)
    return {"from": speaker, "value": "".join(parts)}

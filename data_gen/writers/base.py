"""The contract of a further output format: the samples of a run in another form, with their images inside or not."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

from data_gen.card import shareable
from data_gen.journal import Entry, images_of
from llava_som.config_file import option


@dataclass(frozen=True)
class StoredSample:
    """One sample with everything that belongs to it.

    Attributes:
        id: of the sample.
        out: the output folder.
        images: paths in it, in the order of the conversation; of a marked image, exactly one.
        conversations: LLaVA's turns.
        recipe: what was asked.
        task: which of the recipe's tasks it is, where it has several.
        source: what found the regions or gave the pages.
        sidecar: text of the image's MarkRecord; an untagged twin has that of its tagged image, whose numbers its
            conversation uses. Empty for pages.
    """

    id: str
    out: Path
    images: tuple[str, ...]
    conversations: list[dict[str, str]]
    recipe: str
    task: str | None
    source: str
    sidecar: str

    @property
    def image_name(self) -> str:
        """Path of the (first) image in the output folder."""
        return self.images[0]

    @cached_property
    def image(self) -> bytes:
        """The bytes of that file."""
        return (self.out / self.image_name).read_bytes()

    def marks(self) -> list[dict[str, Any]]:
        """The marks as rows of one fixed type without nulls, which every table library infers alike."""
        return [
            {key: mark[key] for key in ("id", "label", "bbox_xywh", "point_xy", "area_visible")}
            | {"name": mark["category"] or ""}
            for mark in json.loads(self.sidecar)["marks"]
        ]


def stored_samples(out: Path, entries: Iterable[Entry], source: str) -> Iterator[StoredSample]:
    """Every sample of the entries, whose files are in `out`, one after the other."""
    for entry in entries:
        has_marks = entry["samples"] and "sidecar" in entry
        sidecar = shareable_sidecar((out / entry["sidecar"]).read_text(encoding="utf-8")) if has_marks else ""
        for sample in entry["samples"]:
            yield StoredSample(
                id=sample["id"],
                out=out,
                images=tuple(images_of(sample)),
                conversations=sample["conversations"],
                recipe=sample["recipe"],
                task=sample.get("task"),
                source=source,
                sidecar=sidecar,
            )


def shareable_sidecar(text: str) -> str:
    """A sidecar as it leaves the output folder: without the paths of the machine on which it was made."""
    record = json.loads(text)
    origin = shareable(record.get("origin", {}))
    return text if origin == record.get("origin", {}) else json.dumps({**record, "origin": origin}, ensure_ascii=False)


def in_shards(
    samples: Iterable[StoredSample], shard_mb: int, shard_samples: int | None = None
) -> Iterator[Iterator[StoredSample]]:
    """The samples, in order, in runs of so many megabytes of images and so many samples at most.

    Each run is read to its end before the next is taken. A single image above the limit makes a run of its own.
    """

    def numbered() -> Iterator[tuple[int, StoredSample]]:
        shard = size = held = 0
        for sample in samples:
            if held and (held == shard_samples or size + len(sample.image) > shard_mb * 1_000_000):
                shard, size, held = shard + 1, 0, 0
            size, held = size + len(sample.image), held + 1
            yield shard, sample

    for _, shard in groupby(numbered(), key=itemgetter(0)):
        yield (sample for _, sample in shard)


@dataclass(frozen=True, kw_only=True)
class Writer(ABC):
    """Writes the samples of a run. Subclasses add options as fields, numbers of at least 1.

    Attributes:
        path: what it writes in the output folder: one file, or a folder that holds nothing else.
        pattern: the files of data, as a glob in the output folder.
        loading: Python that loads the files, for the dataset card; `OUT` stands for the output folder.
        takes_pages: a sample may have several images, and no marks.
    """

    path: ClassVar[str]
    pattern: ClassVar[str]
    loading: ClassVar[str]
    takes_pages: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name}={getattr(self, field.name)}: must be at least 1.")

    @abstractmethod
    def write(self, out: Path, samples: Iterable[StoredSample]) -> None:
        """Write `out / path` as a whole, in place of what an earlier call wrote; same samples, same bytes."""


@dataclass(frozen=True, kw_only=True)
class ShardWriter(Writer):
    """Writes the images too, in several files of limited size."""

    shard_mb: int = option(400, help="a file holds at most so many megabytes of images")

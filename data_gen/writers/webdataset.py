"""WebDataset: tar files in which the files of a sample share a name, read front to back by streaming loaders."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

from data_gen.writers import WRITERS
from data_gen.writers.base import ShardWriter, StoredSample, in_shards
from llava_som.config_file import option
from llava_som.files import new_folder


@WRITERS.register("webdataset")
@dataclass(frozen=True, kw_only=True)
class WebDatasetWriter(ShardWriter):
    """Tar shards of <number>.jpg, <number>.json and <number>.marks.json, for streaming."""

    shard_samples: int = option(10_000, help="a tar file holds at most so many samples")

    path = "shards"
    pattern = "shards/*.tar"
    loading = 'datasets.load_dataset("webdataset", data_files="OUT/shards/*.tar", split="train", streaming=True)'

    def write(self, out: Path, samples: Iterable[StoredSample]) -> None:
        """Write shards/000000.tar and so on; no file where there is no sample."""
        with new_folder(out / self.path) as folder:
            number = count()
            for shard, held in enumerate(in_shards(samples, self.shard_mb, self.shard_samples)):
                with tarfile.open(folder / f"{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                    for sample in held:
                        for name, data in members(sample, f"{next(number):09d}"):
                            tar.addfile(header(name, len(data)), io.BytesIO(data))


def members(sample: StoredSample, key: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a sample's files. Numbers are the keys: an id may hold dots, which end a key."""
    text = {
        "id": sample.id,
        "image": sample.image_name,
        "conversations": sample.conversations,
        "recipe": sample.recipe,
        "source": sample.source,
        "sidecar": sample.sidecar,
    }
    yield f"{key}{PurePosixPath(sample.image_name).suffix}", sample.image
    yield f"{key}.json", as_bytes(text)
    yield f"{key}.marks.json", as_bytes(sample.marks())


def as_bytes(value: object) -> bytes:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def header(name: str, size: int) -> tarfile.TarInfo:
    """A tar header that says nothing of when and by whom it was written: TarInfo's own time, user and group are 0."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info

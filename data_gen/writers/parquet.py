"""Parquet with the images inside: one row a sample, opened by `datasets`, pandas or DuckDB without our code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.writers import WRITERS
from data_gen.writers.base import ShardWriter, StoredSample, in_shards
from llava_som.config_file import option
from llava_som.files import new_folder

if TYPE_CHECKING:
    import pyarrow


@WRITERS.register("parquet")
@dataclass(frozen=True, kw_only=True)
class ParquetWriter(ShardWriter):
    """Rows with the image inside, decoded at once by `datasets`; training reads them too."""

    rows_per_group: int = option(50, help="rows that are read together; what reading a single one costs")

    path = "parquet"
    pattern = "parquet/*.parquet"
    loading = 'datasets.load_dataset("parquet", data_files="OUT/parquet/*.parquet", split="train")'

    def write(self, out: Path, samples: Iterable[StoredSample]) -> None:
        """Write parquet/train-00000-of-00002.parquet and so on; no file where there is no sample."""
        import pyarrow
        from pyarrow.parquet import ParquetWriter as File

        with new_folder(out / self.path) as folder:
            count = 0
            for count, shard in enumerate(in_shards(samples, self.shard_mb), start=1):
                with File(folder / f"{count}", schema(), use_dictionary=["recipe", "source"]) as file:
                    while rows := [row_of(sample) for sample in islice(shard, self.rows_per_group)]:
                        file.write_table(pyarrow.Table.from_pylist(rows, schema()))
            for number in range(count):
                (folder / f"{number + 1}").rename(folder / f"train-{number:05d}-of-{count:05d}.parquet")


def row_of(sample: StoredSample) -> dict[str, Any]:
    """A sample as a row of `schema`."""
    return {
        "id": sample.id,
        "image": {"bytes": sample.image, "path": sample.image_name},
        "conversations": sample.conversations,
        "recipe": sample.recipe,
        "source": sample.source,
        "marks": sample.marks(),
        "sidecar": sample.sidecar,
    }


def schema() -> pyarrow.Schema:
    """The columns, and the note by which `datasets` knows that `image` is one."""
    import pyarrow as pa

    integers = pa.list_(pa.int32())
    mark = {"id": pa.int32(), "label": pa.string(), "name": pa.string(), "bbox_xywh": integers, "point_xy": integers}
    columns = {
        "id": pa.string(),
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "conversations": pa.list_(pa.struct({"from": pa.string(), "value": pa.string()})),
        "recipe": pa.string(),
        "source": pa.string(),
        "marks": pa.list_(pa.struct({**mark, "area_visible": pa.int32()})),
        "sidecar": pa.string(),
    }
    features = {"info": {"features": {"image": {"_type": "Image"}}}}  # the other types are inferred
    return pa.schema(columns, metadata={"huggingface": json.dumps(features)})

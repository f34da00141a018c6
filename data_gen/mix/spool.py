"""Records on disk between reading and writing, so that memory does not grow with the files; and the file of the mix."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from data_gen.journal import line_of
from data_gen.mix.reader import UniqueIds
from data_gen.writers.files import write_array
from llava_som.files import new_file

_ROWS = 5_000  # of a parquet row group


class Spool:
    """Records in a scratch file, read again in any order; memory holds where each one ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record."""
        line = line_of(record)
        self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))

    def lines(self, order: Iterable[int], ids: UniqueIds) -> Iterator[bytes]:
        """The records at these places as JSON lines; one that comes a second time gets an id of its own."""
        self._file.flush()
        taken = bytearray(len(self))
        for index in order:
            start, end = self._ends[index], self._ends[index + 1]
            line = os.pread(self._file.fileno(), end - start, start)
            if taken[index]:
                record = json.loads(line)
                line = line_of({**record, "id": ids.copy(record["id"])})
            taken[index] = True
            yield line


def write_lines(out: Path, lines: Iterable[bytes]) -> None:
    """Write JSON lines as an array, as they are, or as parquet with the columns id, images and conversations."""
    with new_file(out) as file:
        if out.suffix == ".parquet":
            write_parquet(file, lines)
        elif out.suffix == ".jsonl":
            file.writelines(lines)
        else:
            write_array(lines, file)


def write_parquet(file: IO[bytes], lines: Iterable[bytes]) -> None:
    """Images as a list of paths, null for text alone; fields beyond LLaVA's own are left out."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    turns = pa.list_(pa.struct({"from": pa.string(), "value": pa.string()}))
    schema = pa.schema({"id": pa.string(), "images": pa.list_(pa.string()), "conversations": turns})
    waiting = iter(lines)
    with ParquetWriter(file, schema, compression="zstd") as table:
        while rows := [parquet_row(json.loads(line)) for line in islice(waiting, _ROWS)]:
            table.write_table(pa.Table.from_pylist(rows, schema))


def parquet_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row."""
    image = record.get("image")
    return {**record, "images": [image] if isinstance(image, str) else image}

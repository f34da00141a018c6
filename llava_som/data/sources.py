"""Reading records from JSON, JSONL and parquet files of any size, and holding many of them in little memory."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from llava_som.quarantine import Quarantine
from llava_som.registry import closest_match_message

_CHUNK = 1 << 20
_SEPARATOR = re.compile(r"[,\s]*")


@dataclass(frozen=True)
class DataFile:
    """A file of records and the folder that its image paths start from and may not leave: by default its own folder."""

    path: str
    image_root: str | None = None

    @property
    def root(self) -> Path:
        """The image root."""
        return Path(self.path).parent if self.image_root is None else Path(self.image_root)


def load_records(path: str | Path, quarantine: Quarantine | None = None) -> Iterator[dict[str, Any]]:
    """The records of one file, one at a time; a record without an id gets `<file name>:<number from 1>`.

    Args:
        path: a .json file (one array), .jsonl (an object a line) or .parquet (a row each; images as paths).
        quarantine: where a line that does not parse, or is no object, is set aside as file:line; None: it is an error.

    Raises:
        ValueError: no such file, an unknown suffix, a broken JSON array (nothing after the break can be trusted), or
            a parquet file that is broken or holds bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such data file.")
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: {closest_match_message('data file suffix', path.suffix, _READERS)}")
    for number, (place, record) in enumerate(_rows(path), start=1):
        if isinstance(record, dict):
            yield {"id": f"{path.name}:{number}", **record}
            continue
        reason = str(record) if isinstance(record, ValueError) else f"a record must be an object, found {record!r:.80}"
        if quarantine is None:
            raise ValueError(f"{place}: {reason}")
        quarantine.add(place, path, f"{place}: {reason}")


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Place and content of each record; a ValueError in the place of one that cannot be read."""
    try:
        yield from _READERS[path.suffix](path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error}). Save it as UTF-8.") from None


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield f"{path.name}:{number}", json.loads(line)
            except ValueError as error:  # not JSON, or not UTF-8
                yield f"{path.name}:{number}", ValueError(f"does not parse as JSON: {error}")


def _json_array(path: Path) -> Iterator[tuple[str, Any]]:
    """Decode one element after the other, so that a file of gigabytes never stands in memory as a whole."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(_CHUNK)
        if not text.lstrip().startswith("["):
            raise ValueError(f"{path}: a .json file is one array [...]; for one object a line use the suffix .jsonl.")
        position, line, number = text.index("[") + 1, 1 + text.count("\n", 0, text.index("[")), 0
        while True:
            start = _SEPARATOR.match(text, position).end()  # type: ignore[union-attr]  # matches nothing, at least
            line, position = line + text.count("\n", position, start), start
            if text.startswith("]", position):
                return
            try:
                record, end = decode(text, position)
            except json.JSONDecodeError as error:  # broken, or going on in the next chunk
                if chunk := file.read(max(_CHUNK, len(text))):
                    text, position = text[position:] + chunk, 0
                    continue
                place = f"{path}:{line + text.count(chr(10), position, error.pos)}"
                raise ValueError(f"{place}: the JSON array breaks after record {number}: {error.msg}.") from None
            number += 1
            yield f"{path.name}:{line}", record
            line, position = line + text.count("\n", position, end), end


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as parquet ({error}).") from None
    for column in file.schema_arrow:
        if "binary" in str(column.type):
            raise ValueError(
                f"{path}: column {column.name!r} holds bytes ({column.type}). Images are given by path: write them to "
                "files, and drop the column."
            )
    rows = (row for batch in file.iter_batches(1024) for row in batch.to_pylist())
    for number, row in enumerate(rows, start=1):
        yield f"{path.name}:{number}", {key: value for key, value in row.items() if value is not None}


_READERS = {".json": _json_array, ".jsonl": _json_lines, ".parquet": _parquet_rows}


class RecordTable(Sequence[dict[str, Any]]):
    """Many records as one block of JSON bytes and an offset each.

    A list of dicts would be copied page by page into every loader worker as soon as its reference counts are touched;
    this block is shared by all of them.
    """

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._bytes = bytearray()
        self._ends = array("q")
        for record in records:
            self._bytes += json.dumps(record, ensure_ascii=False, default=str).encode(errors="surrogatepass")
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return json.loads(self._bytes[self._ends[index - 1] if index else 0 : self._ends[index]])

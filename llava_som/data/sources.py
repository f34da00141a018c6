"""Reading records from JSON, JSONL and parquet files of any size, and holding many of them in little memory.

An image that a parquet file holds as bytes is named `<file>.parquet#<row>`; `llava_som.data.record_images` opens it.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from llava_som.quarantine import Quarantine
from llava_som.registry import closest_match_message

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_CHUNK = 1 << 20
_PARQUET_FIELDS = ("id", "image", "images", "conversations", "messages", "recipe", "source")
_SEPARATOR = re.compile(r"[,\s]*")


@dataclass(frozen=True)
class DataFile:
    """A file of records and the folder that its image paths start from and may not leave: by default its own folder.

    A folder of parquet files counts as one file.
    """

    path: str
    image_root: str | None = None

    @property
    def root(self) -> Path:
        """The image root."""
        if self.image_root is not None:
            return Path(self.image_root)
        return Path(self.path) if Path(self.path).is_dir() else Path(self.path).parent


def load_records(path: str | Path, quarantine: Quarantine | None = None) -> Iterator[dict[str, Any]]:
    """The records of one file, one at a time; a record without an id gets `<file name>:<number from 1>`.

    Args:
        path: a .json file (one array), .jsonl (an object a line) or .parquet (a row each; images as paths, or as the
            structs of bytes that `datasets` writes), or a folder of .parquet files, read in the order of their names.
        quarantine: where a line that does not parse, or is no object, is set aside as file:line; None: it is an error.

    Raises:
        ValueError: no such file, an unknown suffix, a broken JSON array (nothing after the break can be trusted), or
            a parquet file that is broken or holds bytes elsewhere than in `image`.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise ValueError(f"{path}: is a folder without .parquet files. Name a data file.")
        for file in files:
            yield from load_records(file, quarantine)
        return
    if not path.is_file():
        raise ValueError(f"{path}: no such data file.")
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: {closest_match_message('data file suffix', path.suffix, _READERS)}")
    for number, (place, record) in enumerate(_rows(path), start=1):
        if isinstance(record, dict):
            yield record if record.get("id") is not None else {**record, "id": f"{path.name}:{number}"}
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
    """The fields of a record and no other column: what else a file holds (sidecars, masks) would only take memory."""
    file = open_parquet(path)
    fields = [column for column in file.schema_arrow if column.name in _PARQUET_FIELDS]
    stored = [column.name for column in fields if _is_stored_image(column)]
    for column in fields:
        if "binary" in str(column.type) and column.name not in stored:
            raise ValueError(
                f"{path}: column {column.name!r} holds bytes ({column.type}). Bytes are read from a column 'image' of "
                "the type struct<bytes: binary, path: string>, as `datasets` writes it; otherwise give paths."
            )
    columns = [f"{column.name}.path" if column.name in stored else column.name for column in fields]
    rows = (row for batch in file.iter_batches(1024, columns=columns) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        if stored and row["image"] is not None:
            row["image"] = f"{path.name}#{number}"
        yield f"{path.name}:{number + 1}", {key: value for key, value in row.items() if value is not None}


def open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    """A parquet file, open; a ValueError where it is none."""
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as parquet ({error}).") from None


def _is_stored_image(column: pyarrow.Field) -> bool:
    return column.name == "image" and str(column.type) == "struct<bytes: binary, path: string>"


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

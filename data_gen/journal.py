"""What a run has finished, one JSON line per image, appended at once: the memory that makes a killed run resumable.

The first line is the run's identity. A process killed while writing leaves at most one line without its end, which is
cut off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_som.files import new_file

Entry = dict[str, Any]
JOURNAL = "records.jsonl"  # its name in an output folder


class Journal:
    """An append-only file of entries `{"id": ..., ...}`; of two entries with one id the later counts.

    Args:
        path: the file; created when absent.
        identity: what decides the output of the run, as JSON values.

    Raises:
        ValueError: the file belongs to another run, or a line other than the last is damaged.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self.entries: dict[str, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._whole_lines()
        if lines:
            self._check_identity(lines[0]["run"], identity)
            self.entries = {entry["id"]: entry for entry in lines[1:]}
        else:
            self._write({"run": identity})

    def append(self, entry: Entry) -> None:
        """Write one entry through to the operating system; the same entry again changes nothing."""
        if self.entries.get(entry["id"]) != entry:
            self.entries[entry["id"]] = entry
            self._write(entry)

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(line_of(line))

    def put_in_order(self, ids: Sequence[str]) -> None:
        """Rewrite the file with these entries first, in this order: one line for each, whatever came before."""
        self.entries = {key: self.entries[key] for key in ids} | self.entries
        with new_file(self.path) as file:
            file.writelines(map(line_of, [{"run": self.identity}, *self.entries.values()]))

    def _whole_lines(self) -> list[Entry]:
        """The parsed lines; a last line without its end is cut off the file."""
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return [self._parse(number, line) for number, line in enumerate(whole.splitlines(), 1)]

    def _parse(self, number: int, line: bytes) -> Entry:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{self.path}: line {number} is damaged ({error}). Delete the line and run again."
            ) from None
        if not isinstance(entry, dict) or ("run" if number == 1 else "id") not in entry:
            raise ValueError(f"{self.path}: line {number} is not of a run of this tool. Choose another out=.")
        return entry

    def _check_identity(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        there, here = flattened(found), flattened(wanted)
        differing = [key for key in there.keys() | here.keys() if there.get(key) != here.get(key)]
        if not differing:
            return
        differing.sort(key=lambda key: (not re.fullmatch(r"\w+\.name", key), key))  # what is another plug-in altogether
        first = [f"another {key}: {there.get(key)} there, {here.get(key)} here" for key in differing[:2]]
        raise ValueError(
            f"{self.path.parent} holds a run with {', and '.join(first)}. Choose another out=, or delete the folder."
        )


def images_of(sample: Mapping[str, Any]) -> list[str]:
    """The images of a sample of an entry, in order."""
    return [sample["image"]] if isinstance(sample["image"], str) else sample["image"]


def line_of(entry: Entry) -> bytes:
    """An entry as a line; what is no UTF-8 in a file name becomes an escape that JSON reads back as it was."""
    return (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def flattened(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted key: {"source": {"count": 3}} -> {"source.count": 3}; plug-ins in a list by name."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
            flat[f"{prefix}{key}"] = [item["name"] for item in value]
            value = {item["name"]: item for item in value}
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat

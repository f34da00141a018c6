"""Reading JSONL files of the user's: rows of a data set and the references beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place ("FILE:3") and object of every line that is not blank; a ValueError names the line that is no object."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{file}:{number}"
                yield place, _parse(line, place)


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{place}: is not JSON ({error}). Repair the line, or fetch the file again.") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place}: must be a JSON object, found {type(row).__name__}.")
    return row

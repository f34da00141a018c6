"""What a dataset run sets aside: one JSON line for each record that cannot be used, with the file and the reason.

The run goes on; nothing is dropped in silence.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


class Quarantine:
    """Appends to `path` (usually quarantine.jsonl) lines of the form `{"id", "file", "reason"}`, each flushed at once.

    A record is set aside once: adding the same id, file and reason again changes nothing, also in a resumed run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries: dict[tuple[str, str, str], None] = {}
        if self.path.exists():
            self._read()

    def add(self, record_id: str, file: str | Path, reason: str | Exception) -> None:
        """Set one record aside."""
        entry = (str(record_id), str(file), str(reason))
        if entry in self._entries:
            return
        self._entries[entry] = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(dict(zip(("id", "file", "reason"), entry, strict=True)), ensure_ascii=False)
        # A file name that is no UTF-8 keeps its stray bytes as \udcXX, which JSON reads back as they were.
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as journal:
            journal.write(f"{line}\n" if self._ends_whole() else f"\n{line}\n")

    def _read(self) -> None:
        """Take up earlier entries; a line that a killed run left unfinished is passed over, its record comes again."""
        for line in self.path.read_text(encoding="utf-8").split("\n"):  # splitlines would cut at U+2028 too
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # an empty line, too
                continue
            self._entries[entry["id"], entry["file"], entry["reason"]] = None

    def _ends_whole(self) -> bool:
        """Whether the last line has its line break: not after a kill in the middle of writing it."""
        with self.path.open("rb") as journal:
            if not journal.seek(0, os.SEEK_END):
                return True
            journal.seek(-1, os.SEEK_END)
            return journal.read() == b"\n"

    @property
    def count(self) -> int:
        """How many records were set aside."""
        return len(self._entries)

    @property
    def ids(self) -> set[str]:
        """The ids that were set aside."""
        return {record_id for record_id, _, _ in self._entries}

"""What a dataset run sets aside: one JSON line for each record that cannot be used, with the file and the reason.

The run goes on; nothing is dropped in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path


class Quarantine:
    """Appends to `path` (usually quarantine.jsonl) lines of the form `{"id", "file", "reason"}`, each flushed at once.

    A record is set aside once: adding the same id, file and reason again changes nothing, also in a resumed run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries: dict[tuple[str, str, str], None] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self._entries[entry["id"], entry["file"], entry["reason"]] = None

    def add(self, record_id: str, file: str | Path, reason: str | Exception) -> None:
        """Set one record aside."""
        entry = (str(record_id), str(file), str(reason))
        if entry in self._entries:
            return
        self._entries[entry] = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as journal:
            journal.write(
                json.dumps(dict(zip(("id", "file", "reason"), entry, strict=True)), ensure_ascii=False) + "\n"
            )

    @property
    def count(self) -> int:
        """How many records were set aside."""
        return len(self._entries)

    @property
    def ids(self) -> set[str]:
        """The ids that were set aside."""
        return {record_id for record_id, _, _ in self._entries}

    def by_reason(self) -> dict[str, int]:
        """Counts by reason, the commonest first."""
        return dict(Counter(reason for _, _, reason in self._entries).most_common())

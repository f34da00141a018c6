"""Checks of an annotator's answer against the sidecar: what fails one never becomes training data."""

from __future__ import annotations

from collections.abc import Sequence

from llava_som.marks.parse import parse_items


class Rejected(ValueError):
    """A record that must not become training data.

    Attributes:
        kind: the reason in a few words, the same for all records with this fault; summaries count by it.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


def listing_problems(text: str, ids: Sequence[int]) -> list[str]:
    """What is wrong with a listing of the marks `ids`, in words.

    Empty when every id is listed once, in the order given, with a text, and no other number is.
    """
    items = parse_items(text)
    listed = items.by_id
    findings = {
        "missing": [mark for mark in ids if mark not in listed],
        "invented": [mark for mark in listed if mark not in set(ids)],
        "repeated": items.duplicates,
        "empty": [mark for mark, name in listed.items() if not name.strip()],
    }
    problems = [f"{fault}: {', '.join(map(str, marks))}" for fault, marks in findings.items() if marks]
    known_order = [mark for mark in listed if mark in set(ids)]
    if known_order != sorted(known_order, key=list(ids).index):
        problems.append(f"out of order: {', '.join(map(str, known_order))}")
    return problems

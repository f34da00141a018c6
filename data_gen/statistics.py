"""What a run made, counted: the numbers of summary.json and of the dataset card.

Entries are counted one at a time and in any order; the result is the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_gen.checks.agreement import agreement
from data_gen.checks.labels import Labels
from data_gen.journal import Entry
from data_gen.requests import Rejected

TOP_NAMES = 50
WORDS_OF_A_NAME = 5  # a longer item is a description, and nearly every one is another


@dataclass
class Statistics:
    """Counters over journal entries. Marks and regions are counted where the image gave at least one sample.

    An untagged twin is one more record; what it says is counted on the tagged image alone.
    """

    images: int = 0
    untagged_twins: int = 0
    regions_without_mark: int = 0
    marks_per_image: Counter[int] = field(default_factory=Counter)
    words_per_item: Counter[int] = field(default_factory=Counter)
    items_per_listing: Counter[int] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    recipes: Counter[str] = field(default_factory=Counter)
    reasons_without_mark: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    agreeing: int = 0
    named: int = 0

    def add(self, entry: Entry, out: Path) -> None:
        """Count one image; what its marks are called, and why regions have none, is read from its sidecar."""
        self.images += 1
        self.rejects.update(reject["kind"] for reject in entry["rejects"])
        self.usage.update(entry.get("usage", {}))
        if not entry["samples"]:
            return
        record = json.loads((out / entry["sidecar"]).read_text(encoding="utf-8"))
        names = {mark["label"]: mark["category"] for mark in record["marks"]}
        self.marks_per_image[entry["marks"]] += 1
        self.regions_without_mark += entry["skipped"]
        self.reasons_without_mark.update(without_numbers(region["reason"]) for region in record["skipped"])
        for sample in entry["samples"]:
            self.recipes[sample["recipe"]] += 1
            if sample["image"] != entry["image"]:  # it says the same once more
                self.untagged_twins += 1
            else:
                for turn in sample["conversations"]:
                    if turn["from"] == "gpt":
                        self._add_listing(turn["value"], names)

    def _add_listing(self, answer: str, names: dict[str, str | None]) -> None:
        """Count the items of an answer that names every mark; other answers may hold numbers that are no list."""
        try:
            items = {item.label: item.text for item in Labels.of(list(names)).items(answer)}
        except Rejected:  # labels that no list can be read back from
            return
        if items.keys() != names.keys():
            return
        agreeing, named = agreement(names, items)
        self.agreeing += agreeing
        self.named += named
        self.items_per_listing[len(items)] += 1
        for text in items.values():
            words = text.lower().split()
            self.words_per_item[len(words)] += 1
            if len(words) <= WORDS_OF_A_NAME:
                self.names[" ".join(words)] += 1

    def summary(self) -> dict[str, Any]:
        """Everything counted, as JSON values."""
        return {
            "images": self.images,
            "records": self.recipes.total(),
            "untagged_twins": self.untagged_twins,
            "records_by_recipe": by_count(self.recipes),
            "marks": sum(marks * images for marks, images in self.marks_per_image.items()),
            "marks_per_image": distribution(self.marks_per_image),
            "items_per_listing": distribution(self.items_per_listing),
            "words_per_item": distribution(self.words_per_item),
            "agreement_with_annotation": round(self.agreeing / self.named, 4) if self.named else None,
            "vocabulary": {"size": len(self.names), "top": by_count(self.names, TOP_NAMES)},
            "regions_without_mark": self.regions_without_mark,
            "regions_without_mark_by_reason": by_count(self.reasons_without_mark),
            "rejected": self.rejects.total(),
            "rejected_by_reason": by_count(self.rejects),
            "usage": {key: self.usage[key] for key in ("prompt_tokens", "completion_tokens")},
        }


def summarize(out: Path, entries: Iterable[Entry]) -> dict[str, Any]:
    """The counts of a run whose files are in `out`."""
    statistics = Statistics()
    for entry in entries:
        statistics.add(entry, out)
    return statistics.summary()


def distribution(values: Counter[int]) -> dict[str, Any]:
    """Smallest, mean and largest value, and how often each occurs; {} when there is none."""
    if not values:
        return {}
    total = sum(value * count for value, count in values.items())
    return {
        "min": min(values),
        "mean": round(total / values.total(), 2),
        "max": max(values),
        "histogram": {str(value): values[value] for value in sorted(values)},
    }


def by_count(counter: Counter[str], most: int | None = None) -> dict[str, int]:
    """The `most` frequent keys with their counts; those that occur equally often by name."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most])


def without_numbers(reason: str) -> str:
    """A reason as it is for every region: "8 of 90 pixels visible" -> "N of N pixels visible"."""
    return re.sub(r"\d+(?:\.\d+)?", "N", reason)

"""What a run over pages made, counted: the numbers of its summary.json and dataset card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from data_gen.journal import Entry, images_of
from data_gen.statistics import by_count, distribution


@dataclass
class PageStatistics:
    """Counters over journal entries, in any order. Words are counted on the pages that were written."""

    images: int = 0
    files: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    words_per_page: Counter[int] = field(default_factory=Counter)
    images_per_record: Counter[int] = field(default_factory=Counter)
    words_per_answer: Counter[int] = field(default_factory=Counter)
    recipes: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        self.files.add(entry["file"])
        self.rejects.update(reject["kind"] for reject in entry["rejects"])
        for page in entry.get("pages", ()):
            self.images += 1
            self.kinds[page["kind"]] += 1
            self.words_per_page[page["words"]] += 1
        for sample in entry["samples"]:
            self.recipes[sample["recipe"]] += 1
            self.tasks[sample["task"]] += 1
            self.images_per_record[len(images_of(sample))] += 1
            for turn in sample["conversations"]:
                if turn["from"] == "gpt":
                    self.words_per_answer[len(turn["value"].split())] += 1

    def summary(self) -> dict[str, Any]:
        """Everything counted, as JSON values."""
        return {
            "images": self.images,
            "files": len(self.files),
            "records": self.recipes.total(),
            "records_by_recipe": by_count(self.recipes),
            "records_by_task": by_count(self.tasks),
            "pages_by_kind": by_count(self.kinds),
            "words": sum(words * pages for words, pages in self.words_per_page.items()),
            "words_per_page": summed_up(self.words_per_page),
            "words_per_answer": summed_up(self.words_per_answer),
            "images_per_record": distribution(self.images_per_record),
            "rejected": self.rejects.total(),
            "rejected_by_reason": by_count(self.rejects),
            "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        }


def summed_up(values: Counter[int]) -> dict[str, Any]:
    """Smallest, mean and largest value; nearly every page has another count, so there is no histogram."""
    return {key: value for key, value in distribution(values).items() if key != "histogram"}


def summarize_pages(entries: Iterable[Entry]) -> dict[str, Any]:
    """The counts of a run over pages."""
    statistics = PageStatistics()
    for entry in entries:
        statistics.add(entry)
    return statistics.summary()

"""Scoring a listing answer against the sidecar of its image.

List-wise accuracy is M/N: of the N marks, how many got their own name (SoM-LLaVA, section 5.2 and figure 3). The
other counts say how an answer fails: ids missed or invented, items out of order, lists that run on, and right names
tied to the wrong mark, the skill the paper finds missing. Names are compared after `normalize_name` and must then be
equal: synonyms are not guessed, but a class counts as named by the words its data set spells in one ("diningtable").
Marks are told by what is printed on their tags, numbers or letters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llava_som.marks.labels import are_readable, labelled_items, rank
from llava_som.marks.names import spelled_out
from llava_som.marks.parse import normalize_name
from llava_som.marks.record import MarkRecord


@dataclass(frozen=True)
class ListingScore:
    """Counts for one answer.

    Attributes:
        tags: N, the marks of the image.
        items: items in the answer, repeated and invented ids included.
        correct: M, marks whose own name stands beside their id.
        named: names of the image that occur in the answer beside any id, each as often as it is there.
        found: ids of the image that the answer lists.
        misplaced: fewest items that would have to move for the ids to ascend.
        overrun: items beyond the number of marks (seven marks answered by eleven items: 4).
        misassociated: marks given the name of another mark instead of their own.
    """

    tags: int
    items: int
    correct: int
    named: int
    found: int
    misplaced: int
    overrun: int
    misassociated: int

    def metrics(self) -> dict[str, float]:
        """The shares that are averaged over images; all but `overrun` lie in [0, 1]."""
        return {
            "accuracy": self.correct / self.tags,
            "name_recall": self.named / self.tags,
            "id_recall": self.found / self.tags,
            "id_precision": self.found / self.items if self.items else 0.0,
            "order_error": self.misplaced / self.items if self.items else 0.0,
            "overrun": self.overrun / self.tags,
            "association_error": self.misassociated / self.tags,
            "unparsable": float(self.items == 0),
        }


def score_listing(answer: str, record: MarkRecord) -> ListingScore:
    """Compare an answer in any accepted listing format with the marks it should name.

    Raises:
        ValueError: the record has no marks, a mark without a name, or labels that no answer can be read for.
    """
    names = tag_names(record)
    items = labelled_items(answer, list(names))
    said = {item.label: plain_name(item.text) for item in reversed(items)}  # the first mention of a tag stands
    wrong = [tag for tag, name in names.items() if said.get(tag, name) != name]
    return ListingScore(
        tags=len(names),
        items=len(items),
        correct=sum(said.get(tag) == name for tag, name in names.items()),
        named=(Counter(said.values()) & Counter(names.values())).total(),
        found=len(said.keys() & names.keys()),
        misplaced=len(items) - _longest_ascent([rank(item.label) for item in items]),
        overrun=max(0, len(items) - len(names)),
        misassociated=sum(said[tag] in names.values() for tag in wrong),
    )


def tag_names(record: MarkRecord) -> dict[str, str]:
    """What each mark's tag says, and its normalised name.

    Raises:
        ValueError: there is nothing to score against.
    """
    names = {mark.label: plain_name(mark.category or "") for mark in record.marks}
    if not are_readable([*names]):
        raise ValueError(
            f"{record.image}: its tags say {', '.join(map(repr, [*names][:5]))}; a listing is scored for marks "
            "labelled 1, 2, 3 or a, b, c. Tag with marks.labels=numbers or letters."
        )
    nameless = [tag for tag, name in names.items() if not name]
    if nameless or not names:
        lack = f"marks {nameless} have no name" if nameless else "there are no marks"
        raise ValueError(
            f"{record.image}: {lack}, a listing cannot be scored. Tag with a source that knows names, such as coco."
        )
    return names


def plain_name(text: str) -> str:
    """A name as it is compared."""
    return normalize_name(spelled_out(text))


def _longest_ascent(ids: Sequence[int]) -> int:
    """Length of the longest strictly ascending subsequence (patience sorting)."""
    tails: list[int] = []
    for tag in ids:
        place = bisect_left(tails, tag)
        tails[place : place + 1] = [tag]
    return len(tails)

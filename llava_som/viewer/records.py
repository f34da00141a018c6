"""A dataset as records to look at: which there are, what they can be filtered by, and one in full when it is opened.

What is kept of each record is its line of the list; a sidecar with its masks is read when its record is opened. So a
set of a hundred thousand records opens in seconds, and moving through it costs one small file at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from llava_som.data.page_record import PageRecord
from llava_som.data.record_images import image_file
from llava_som.data.sources import RecordTable
from llava_som.images import resolve_inside
from llava_som.marks.record import MarkRecord

from .images import image_content

Row = dict[str, Any]
"""One record as its reader found it (`readers`):

    id, file            what it is called, and the image file it was made from
    images              [{"label", "path"}], paths relative to the dataset's root; of a page also "page", its .page.json
    sidecar             path of its .marks.json, or None
    tags, sources       how many marks it has, and where their regions come from
    names               what the marks are called, where only the sidecar says it
    samples             [{"id", "recipe", "shows" (label of an image), "turns": [{"from", "value"}]}]
    rejects             [{"recipe", "kind", "reason", "answer"}]
"""
Link = Callable[[int, int, Path], str]
"""(record number, image number in it, file) -> the address under which the page finds that image."""

NO_REJECT, ANY_REJECT = "(none)", "(any)"  # as a Query's kind; in brackets, because a kind may have any name
_SEPARATOR = b"\0"


class Facts(NamedTuple):
    """What filters look at."""

    id: str
    tags: int
    sources: tuple[str, ...]
    recipes: tuple[str, ...]
    kinds: tuple[str, ...]
    accepted: bool

    @classmethod
    def of(cls, row: Row) -> Facts:
        """The facts of one row; equal tuples are one object, so that many records take little memory."""
        recipes = [part["recipe"] for part in (*row["samples"], *row["rejects"]) if part["recipe"]]
        return cls(
            id=row["id"],
            tags=row["tags"],
            sources=_shared(tuple(dict.fromkeys(row["sources"]))),
            recipes=_shared(tuple(dict.fromkeys(recipes))),
            kinds=_shared(tuple(dict.fromkeys(reject["kind"] for reject in row["rejects"]))),
            accepted=bool(row["samples"]) or not row["rejects"],
        )


@lru_cache(maxsize=4096)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    return names


@dataclass(frozen=True)
class Query:
    """Which records to list; what is empty does not filter.

    Args:
        source: only records with a region of this source.
        recipe: only records this recipe was tried on.
        kind: only records with a reject of this kind, with any (ANY_REJECT) or without one (NO_REJECT).
        min_tags: at least so many marks.
        max_tags: at most so many.
        text: appears, whatever its case, in the id, the file name, a turn, a reject or the name of a mark.
    """

    source: str = ""
    recipe: str = ""
    kind: str = ""
    min_tags: int = 0
    max_tags: int | None = None
    text: str = ""

    def admits(self, facts: Facts) -> bool:
        """Whether the facts pass every filter but the text."""
        return (
            (not self.source or self.source in facts.sources)
            and (not self.recipe or self.recipe in facts.recipes)
            and (not self.kind or self._admits_rejects(facts.kinds))
            and self.min_tags <= facts.tags
            and (self.max_tags is None or facts.tags <= self.max_tags)
        )

    def _admits_rejects(self, kinds: tuple[str, ...]) -> bool:
        special = {NO_REJECT: not kinds, ANY_REJECT: bool(kinds)}
        return special.get(self.kind, self.kind in kinds)


class Dataset:
    """Records by number, counted from 0.

    Args:
        name: how the page calls it.
        root: the folder that all paths start from and may not leave.
        rows: the records in the order to show them in.
    """

    def __init__(self, name: str, root: Path, rows: Iterable[Row]) -> None:
        self.name, self.root = name, root
        self.facts: list[Facts] = []
        self._rows = RecordTable(self._noted(rows))
        self._select = lru_cache(maxsize=8)(self._find)  # moving through the pages of one list finds it once

    def _noted(self, rows: Iterable[Row]) -> Iterable[Row]:
        for row in rows:
            self.facts.append(Facts.of(row))
            yield row

    def __len__(self) -> int:
        return len(self.facts)

    @cached_property
    def facets(self) -> dict[str, Any]:
        """What there is to choose from: records by source, recipe and kind of reject, and the largest tag count."""
        return {
            **{
                name: dict(Counter(value for facts in self.facts for value in getattr(facts, name)).most_common())
                for name in ("sources", "recipes", "kinds")
            },
            "rejected": sum(bool(facts.kinds) for facts in self.facts),
            "most_tags": max((facts.tags for facts in self.facts), default=0),
        }

    def select(self, query: Query) -> Sequence[int]:
        """The numbers of the records that a query admits, ascending."""
        return self._select(query)

    def _find(self, query: Query) -> Sequence[int]:
        numbers: Iterable[int] = range(len(self)) if not query.text else self._words.containing(query.text)
        return [number for number in numbers if query.admits(self.facts[number])]

    @cached_property
    def _words(self) -> SearchText:
        return SearchText(_words_of(row) for row in self._rows)

    def summary(self, number: int, link: Link) -> dict[str, Any]:
        """A record's line of the list, as JSON values."""
        return self._summary(number, self._rows[number], link)

    def _summary(self, number: int, row: Row, link: Link) -> dict[str, Any]:
        shown = [image for image in self._images(number, row, link) if "url" in image]
        return {"number": number, **self.facts[number]._asdict(), "thumbnail": shown[0]["url"] if shown else None}

    def view(self, number: int, link: Link) -> dict[str, Any]:
        """All of one record, as JSON values: its summary and

            file, samples, rejects   as in a Row
            images                   [{"label", "path", "url"}]; {"problem"} in place of "url" where there is no file;
                                     of a page also its "size" and "words", [[left, top, right, bottom, text]]
            size, preset             of the marked image, [width, height], and the name of its preset; None without one
            marks, skipped           as in the sidecar, their boxes, masks (RLE) and traces in pixels of that size
            problems                 sentences: what of this record cannot be shown

        An unreadable sidecar is a problem of the record, not an error.
        """
        row = self._rows[number]
        view = {
            **self._summary(number, row, link),
            **{key: row[key] for key in ("file", "samples", "rejects")},
            "images": self._images(number, row, link),
            **{"size": None, "preset": None, "marks": [], "skipped": [], "problems": []},
        }
        if row["sidecar"] is not None:
            try:
                record = MarkRecord.load(resolve_inside(row["sidecar"], self.root))
                view |= record.model_dump(include={"size", "marks", "skipped"}) | {"preset": record.preset.name}
                view["sources"] = view["sources"] or sorted({region.source for region in record.marks})
            except ValueError as error:
                view["problems"] = [str(error)]
        for image in view["images"]:
            if "page" in image:
                try:
                    image |= self._words_on(image["page"])
                except ValueError as error:
                    view["problems"].append(str(error))
        return view

    def _words_on(self, sidecar: str) -> dict[str, Any]:
        record = PageRecord.load(resolve_inside(sidecar, self.root))
        return {"size": record.size, "words": [[*word.box, word.text] for word in record.words]}

    def image(self, number: int, position: int) -> tuple[bytes, str]:
        """One image of a record as a browser shows it: its bytes and their media type.

        Raises:
            IndexError: no such record, or no such image of it.
            ImageError: its path leaves the root, or it is no image.
            FileNotFoundError: there is no such file.
        """
        return image_content(self._rows[number]["images"][position]["path"], self.root)

    def _images(self, number: int, row: Row, link: Link) -> list[dict[str, Any]]:
        return [{**image, **self._address(number, at, image, link)} for at, image in enumerate(row["images"])]

    def _address(self, number: int, position: int, image: dict[str, str], link: Link) -> dict[str, str]:
        try:
            file = image_file(image["path"], self.root)
            return {"url": link(number, position, file)} if file.is_file() else {"problem": f"{file}: no such file."}
        except (ValueError, OSError) as error:  # a path outside the root, or one that no file can have
            return {"problem": str(error)}


class SearchText:
    """The words of many records as one block, so that a search is one pass over memory and no loop over records."""

    def __init__(self, texts: Iterable[str]) -> None:
        pieces = [_searchable(text) + _SEPARATOR for text in texts]
        self._block = b"".join(pieces)
        self._ends = list(accumulate(map(len, pieces)))

    def containing(self, text: str) -> list[int]:
        """The numbers of the texts that hold `text`, whatever its case, ascending."""
        wanted, found = _searchable(text), []
        at = self._block.find(wanted)
        while at >= 0:
            number = bisect_right(self._ends, at)
            found.append(number)
            at = self._block.find(wanted, self._ends[number])
        return found


def _searchable(text: str) -> bytes:
    return text.casefold().encode(errors="surrogatepass").replace(_SEPARATOR, b" ")


def _words_of(row: Row) -> str:
    turns = [turn["value"] for sample in row["samples"] for turn in sample["turns"]]
    rejects = [f"{reject['kind']}\n{reject['reason']}\n{reject['answer']}" for reject in row["rejects"]]
    return "\n".join([row["id"], row["file"], *row["names"], *turns, *rejects])

"""Pages as training data: unified structure learning (arXiv 2403.12895) and its multi-page tasks (arXiv 2409.03420).

Every task that a page has what it takes for gives a conversation; how large the text of a localisation task is, which
pages are asked for, and the wording are drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any, Literal

from data_gen.documents import prompts
from data_gen.documents.localisation import BUNDLED, TASK_NAMES, Grain, Place, locate, places, recognise
from data_gen.documents.reading import Turns, continuation, look_up_pages, parse, parse_pages
from data_gen.documents.text import Reading
from data_gen.recipes import RECIPES
from data_gen.recipes.base import PageRecipe
from data_gen.requests import PageSample
from llava_som.config_file import option
from llava_som.data.page_record import PageRecord

Task = Literal["parse", "continue", "locate", "recognise", "parse_pages", "look_up_pages"]
ALL_TASKS: tuple[Task, ...] = ("parse", "continue", "locate", "recognise", "parse_pages", "look_up_pages")
GRAINS: tuple[Grain, ...] = ("word", "phrase", "line", "block")


@RECIPES.register("document")
@dataclass(frozen=True, kw_only=True)
class DocumentRecipe(PageRecipe):
    """Reading pages, tables and charts, telling where text stands, and finding pages among several."""

    tasks: tuple[Task, ...] = option(
        ALL_TASKS,
        help="parse: all text, or the table or chart data as Markdown; continue: the rest of a text; locate: text to "
        "box; recognise: box to text; parse_pages, look_up_pages: about several pages of one file",
    )
    grains: tuple[Grain, ...] = option(GRAINS, help="how large a text locate and recognise ask for; one is drawn")
    reading: Reading = option(
        "rows", help="order of a page's text. rows: across the page as it is laid out; columns: one after the other"
    )
    min_word_area: float = option(0.001, help="smallest word that is asked for, as a share of the page")
    bundle: int = option(5, help="most words or phrases that one conversation asks for")

    def __post_init__(self) -> None:
        for key in ("tasks", "grains"):
            if not getattr(self, key) or len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key}={list(getattr(self, key))}: name at least one, and each once.")
        if not 0 <= self.min_word_area < 1:
            raise ValueError(f"min_word_area={self.min_word_area}: a share of the page, 0 to 1.")
        if self.bundle < 1:
            raise ValueError(f"bundle={self.bundle}: a conversation asks for at least 1.")

    def samples(self, pages: Mapping[str, PageRecord], chance: Callable[[str], Random]) -> Iterator[PageSample]:
        """Those of each page, then those of all of them."""
        for page_id, page in pages.items():
            yield from self._of_page(page_id, page, chance)
        texts = {page_id: page for page_id, page in pages.items() if page.kind == "document"}
        if len(texts) > 1:
            yield from self._of_pages(texts, chance)

    def describe(self) -> dict[str, Any]:
        """A hash over the wordings."""
        return {"wording_sha256": hashlib.sha256(repr(prompts.ALL).encode()).hexdigest()}

    def _of_page(self, page_id: str, page: PageRecord, chance: Callable[[str], Random]) -> Iterator[PageSample]:
        for task in self.tasks:
            rng = chance(f"{page_id}:{task}")
            if made := self._ask(task, page, rng):
                name, turns = made
                yield PageSample(f"{page_id}:{name}", name, (page_id,), turns)

    def _ask(self, task: Task, page: PageRecord, rng: Random) -> tuple[str, Turns] | None:
        """What a task about a single page is called, and its conversation; None where the page does not suit it."""
        if task == "parse":
            return task, parse(page, self.reading, rng)
        if task == "continue" and page.kind == "document" and (turns := continuation(page, self.reading, rng)):
            return task, turns
        if task in ("locate", "recognise") and (found := self._chosen(page, rng)):
            grain, chosen = found
            if task == "locate":
                return f"{TASK_NAMES[grain]}_t2bbox", locate(page, chosen, rng)
            return f"{TASK_NAMES[grain]}_bbox2t", recognise(page, chosen, rng)
        return None

    def _chosen(self, page: PageRecord, rng: Random) -> tuple[Grain, list[Place]] | None:
        """A size that the page has texts of, and as many of these texts as one conversation asks for."""
        for grain in rng.sample(self.grains, len(self.grains)):
            count = rng.randint(1, self.bundle) if grain in BUNDLED else 1
            if found := list(islice(places(page, grain, self.min_word_area, rng), count)):
                return grain, found
        return None

    def _of_pages(self, pages: Mapping[str, PageRecord], chance: Callable[[str], Random]) -> Iterator[PageSample]:
        first, shown = next(iter(pages)), list(pages.values())
        asking: dict[Task, Callable[..., Turns | None]] = {"parse_pages": parse_pages, "look_up_pages": look_up_pages}
        for task, ask in asking.items():
            sample_id = f"{first}:{task}"
            if task in self.tasks and (turns := ask(shown, self.reading, chance(sample_id))):
                yield PageSample(sample_id, task, tuple(pages), turns)

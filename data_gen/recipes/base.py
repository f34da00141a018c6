"""The contracts of recipes: what is asked about a tagged image, or about pages, and which turns the answers become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from data_gen.requests import Conversation, PageSample, Tagged
    from llava_som.data.page_record import PageRecord


@dataclass(frozen=True, kw_only=True)
class AnyRecipe(ABC):  # noqa: B024  (each kind has its own abstract method)
    """What both kinds of recipe have. Options are fields."""

    transient_fields: ClassVar[frozenset[str]] = frozenset()  # options that do not decide what is written

    def describe(self) -> dict[str, Any]:
        """What the dataset card says about this recipe besides its name and options: a hash of its wording."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Recipe(AnyRecipe):
    """Turns a tagged image into a conversation. Subclasses add options as fields."""

    needs: ClassVar[Literal["names", "traces"] | None] = None  # of a source; names only for the annotation's own answer

    @abstractmethod
    def conversation(self, tagged: Tagged, rng: Random) -> Conversation:
        """A generator that yields `Request`s, receives an `Answer` for each, and returns the turns.

        Human and gpt turns alternate; the first one holds `<image>` once.

        Args:
            tagged: the image with its numbers, and its record (the sidecar).
            rng: the only source of chance, seeded by the run and the image.

        Raises:
            data_gen.requests.Rejected: the image does not suit the recipe, or an answer fails the recipe's checks.
                The annotator's own rejection is raised at the `yield`, and need not be caught.
        """


@dataclass(frozen=True, kw_only=True)
class PageRecipe(AnyRecipe):
    """Turns pages whose text is known into conversations; the pages answer, so there is nobody to ask."""

    @abstractmethod
    def samples(self, pages: Mapping[str, PageRecord], chance: Callable[[str], Random]) -> Iterator[PageSample]:
        """The conversations about single pages, and about several of them.

        Args:
            pages: by id, in the order of their document; those that belong together.
            chance: the generator that decides about a sample, by the sample's id: the only source of chance.
        """

"""The contract of a recipe: from a marked image to a checked conversation about its marks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from data_gen.annotators.base import Annotator
    from llava_som.marks.marker import MarkedImage


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation in LLaVA's terms."""

    speaker: Literal["human", "gpt"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Turns a marked image into a conversation. Subclasses add options as fields."""

    @abstractmethod
    def conversation(self, marked: MarkedImage, annotator: Annotator, rng: Random) -> list[Turn]:
        """Human and gpt turns, alternating; the first one holds `<image>` once.

        Args:
            marked: the image with its numbers, and its record (the sidecar).
            annotator: who answers.
            rng: the only source of chance, seeded by the run and the image.

        Raises:
            data_gen.checks.Rejected: the annotator cannot answer, or its answer fails the recipe's checks.
        """

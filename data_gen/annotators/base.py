"""The contract of an annotator: one answer to one question about a marked image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llava_som.marks.marker import MarkedImage


@dataclass(frozen=True, kw_only=True)
class Annotator(ABC):
    """Answers questions about marked images. Subclasses add options as fields."""

    @abstractmethod
    def answer(self, question: str, marked: MarkedImage) -> str:
        """The answer as training text; recipes check it afterwards.

        Raises:
            data_gen.checks.Rejected: this image cannot be answered.
        """

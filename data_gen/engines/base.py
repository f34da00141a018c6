"""The contract of an engine: carry refs through the two stages of a run, and hand each entry back once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_gen.config import Run
    from data_gen.journal import Entry
    from data_gen.sources.base import ImageRef


@dataclass(frozen=True, kw_only=True)
class Engine(ABC):
    """Runs `stages.MarkImages` and `stages.Annotate`. Subclasses add options as fields; none decides the output."""

    @abstractmethod
    def entries(self, run: Run, refs: Sequence[ImageRef]) -> Generator[Entry, None, None]:
        """One finished entry for each ref, in any order, as they come.

        Only so much is under way that a run of any length needs the memory of a short one. When the generator has
        ended, closed early or by an error, nothing writes to the output any more.

        Raises:
            OSError, ImportError, ValueError: the stages cannot work at all; what was yielded before stands.
        """

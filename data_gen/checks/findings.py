"""What a check found, and the limits that recipes check against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from data_gen.requests import Rejected
from llava_som.config_file import option


@dataclass(frozen=True)
class Finding:
    """One fault of an answer.

    Attributes:
        kind: the fault in a few words, the same for every record that has it.
        detail: what exactly is wrong here.
        labels: the tags it concerns, where it concerns some.
    """

    kind: str
    detail: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an answer may fall short; the recipes that check answers offer these as options."""

    max_words: int = option(60, help="longest item of a list, or answer of a conversation, in words")
    max_hedged: float = option(0.5, help="largest share of items or answers that may be unsure (possibly, unclear)")
    max_identical: float = option(
        0.6, help="largest share of items or answers that may read the same; where the annotated names do, all may"
    )

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ValueError(f"max_words={self.max_words}: an item has at least 1 word.")
        for key in ("max_hedged", "max_identical"):
            _check_share(key, getattr(self, key))


@dataclass(frozen=True, kw_only=True)
class ListLimits(Limits):
    """How much a list of the tags may fall short."""

    min_agreement: float | None = option(
        None, help="smallest share of list items that have to name the annotated class; unset: not checked"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_agreement is not None:
            _check_share("min_agreement", self.min_agreement)


def _check_share(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{key}={value}: a share, from 0 to 1.")


def reject(findings: Iterable[Finding], *answers: str) -> Rejected:
    """The error for an answer that fails: counted under its first finding, with everything the annotator said."""
    first, *more = findings
    detail = "; ".join([first.detail, *(f"{finding.kind}: {finding.detail}" for finding in more)])
    return Rejected(first.kind, detail, joined_answers(answers))


def joined_answers(answers: Iterable[str]) -> str:
    """All that the annotator said, as one text."""
    return "\n\n--- asked again ---\n\n".join(answers)

"""Answers from the annotation itself: the class name of every mark, in order (arXiv 2404.16375, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_gen.annotators import ANNOTATORS
from data_gen.annotators.base import Annotator
from data_gen.checks import Rejected

if TYPE_CHECKING:
    from llava_som.marks.marker import MarkedImage


@ANNOTATORS.register("ground_truth")
@dataclass(frozen=True, kw_only=True)
class GroundTruthAnnotator(Annotator):
    """Lists class names, "1. person" and so on; it needs a source that knows names (coco, boxes, scenes)."""

    def answer(self, question: str, marked: MarkedImage) -> str:
        """One numbered line for each mark, whatever the question."""
        names = {mark.label: (mark.category or "").strip() for mark in marked.record.marks}
        nameless = [label for label, name in names.items() if not name]
        if nameless:
            raise Rejected("region without a name", f"ground_truth has no class name for mark {', '.join(nameless)}")
        return "\n".join(f"{label}. {name}" for label, name in names.items())

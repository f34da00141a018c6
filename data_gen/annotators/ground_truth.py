"""Answers from the annotation itself, as in the tag-listing study (arXiv 2404.16375, section 5.2): no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_gen.annotators import ANNOTATORS
from data_gen.annotators.base import Annotator
from data_gen.requests import Answer, Rejected, Request

A_MODEL_CAN = "annotator=openai_compatible or local_model can describe what has no name"


@ANNOTATORS.register("ground_truth")
@dataclass(frozen=True, kw_only=True)
class GroundTruthAnnotator(Annotator):
    """Says what the sidecar knows; it needs a source that knows names (coco, boxes, scenes ...)."""

    def answer(self, requests: Sequence[Request]) -> list[Answer | Rejected]:
        """The `truth` of each request."""
        return [
            Rejected("the annotation does not know", f"{request.no_truth}; {A_MODEL_CAN}")
            if request.truth is None
            else Answer(request.truth)
            for request in requests
        ]

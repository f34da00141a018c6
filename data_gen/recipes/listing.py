"""List every mark, one by one: the training signal of SoM-LLaVA (arXiv 2404.16375, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from data_gen.checks import Rejected, listing_problems
from data_gen.recipes import RECIPES
from data_gen.recipes.base import Recipe, Turn
from data_gen.recipes.instructions import EVERY_OBJECT, SOME_REGIONS

if TYPE_CHECKING:
    from data_gen.annotators.base import Annotator
    from llava_som.marks.marker import MarkedImage


@RECIPES.register("listing")
@dataclass(frozen=True, kw_only=True)
class ListingRecipe(Recipe):
    """One question, one numbered list that names every mark once and in order."""

    def conversation(self, marked: MarkedImage, annotator: Annotator, rng: Random) -> list[Turn]:
        """One of the instructions, all equally likely, and the list."""
        question = rng.choice(EVERY_OBJECT + SOME_REGIONS)
        answer = annotator.answer(question, marked)
        problems = listing_problems(answer, [mark.id for mark in marked.record.marks])
        if problems:
            raise Rejected("the list does not fit the marks", "; ".join(problems))
        return [Turn("human", f"<image>\n{question}"), Turn("gpt", answer)]

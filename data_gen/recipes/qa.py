"""A conversation about the marked things, in several turns: the second half of SoM-LLaVA's data (arXiv 2404.16375).

A model writes it with the picture before it; the annotation itself asks only what the sidecar makes certain. Both write
the same form and pass the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, get_args

from data_gen.checks.dialogue import dialogue_text
from data_gen.prompts.repair import FAULTS
from data_gen.prompts.system import TEMPLATES as SYSTEM
from data_gen.prompts.system import dialogue_system
from data_gen.recipes import RECIPES
from data_gen.recipes.checked import CheckedRecipe, ask_dialogue, check_turns, labels_and_names, token_limit, turns_of
from data_gen.recipes.questions import TEMPLATES
from data_gen.recipes.rule_based import Kind, rule_dialogue
from data_gen.requests import Conversation, Message, Request, Tagged
from llava_som.config_file import option


@RECIPES.register("qa")
@dataclass(frozen=True, kw_only=True)
class QaRecipe(CheckedRecipe):
    """Questions about the marked things and answers that cite the tags, in several turns."""

    turns: tuple[int, int] = option((2, 5), help="fewest and most questions of a conversation")
    kinds: tuple[Kind, ...] = option(
        get_args(Kind), help="what the annotation is asked (a model is free): any of " + ", ".join(get_args(Kind))
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_turns(self.turns)
        if not self.kinds:
            raise ValueError(f"kinds=[]: name at least one of {', '.join(get_args(Kind))}.")

    def conversation(self, tagged: Tagged, rng: Random) -> Conversation:
        """Between the fewest and most turns; what the annotation knows too little for is left to a model."""
        labels, _ = labels_and_names(tagged.record)
        certain = rule_dialogue(tagged.record, rng, self.turns, self.kinds)
        request = Request(
            image=tagged.image,
            messages=(Message("user", ""),),
            system=dialogue_system(labels, tagged.record, self.turns, self.max_words),
            examples=self._examples(tagged),
            max_tokens=token_limit(2 * self.max_words * self.turns[1]),
            seed=rng.getrandbits(31),
            truth=dialogue_text(certain) if len(certain) >= self.turns[0] else None,
            no_truth=f"it makes {len(certain)} questions certain, fewer than {self.turns[0]}",
        )
        return turns_of((yield from ask_dialogue(request, labels, self.turns, self)))

    def describe(self) -> dict[str, Any]:
        """A hash over the system message, examples, repairs and the wordings of the rule-based questions."""
        from data_gen.prompts.examples import GARDEN_TALK, TABLE_TALK, wording_hash

        return {
            "wording_sha256": wording_hash([*SYSTEM, str(GARDEN_TALK), str(TABLE_TALK), str(FAULTS), str(TEMPLATES)])
        }

    def _examples(self, tagged: Tagged) -> tuple:
        from data_gen.prompts.examples import dialogue_examples

        return dialogue_examples(tagged.record.preset) if self.examples else ()

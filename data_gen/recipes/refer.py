"""From a tag to a description that fits nothing else, and back: referring expressions over marks, both ways.

A model that reads tags and knows objects may still tie the wrong one to the other (arXiv 2404.16375, section 3); here
each turn is about that tie alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Literal

from data_gen.checks.dialogue import Exchange
from data_gen.checks.findings import Finding, ListLimits
from data_gen.checks.labels import Labels
from data_gen.checks.listing import list_text, mention_findings, uniqueness_findings
from data_gen.english import sentence
from data_gen.prompts.repair import FAULTS
from data_gen.prompts.system import TEMPLATES, description_system
from data_gen.recipes import RECIPES
from data_gen.recipes.checked import (
    CheckedRecipe,
    ListTask,
    ask_list,
    check_turns,
    labels_and_names,
    token_limit,
    turns_of,
)
from data_gen.recipes.descriptions import unique_descriptions
from data_gen.recipes.instructions import (
    DESCRIBE_TAG,
    DESCRIBE_TAG_ANSWERS,
    FIND_DESCRIBED,
    FIND_DESCRIBED_ANSWERS,
    FIND_THE,
    FIND_THE_ANSWERS,
)
from data_gen.requests import Conversation, Message, Rejected, Request, Tagged
from llava_som.config_file import option


@RECIPES.register("refer")
@dataclass(frozen=True, kw_only=True)
class ReferRecipe(ListLimits, CheckedRecipe):
    """Tag to description and description to tag, for things that are told apart."""

    needs: ClassVar[Literal["names"]] = "names"

    turns: tuple[int, int] = option((1, 6), help="fewest and most questions of a conversation")
    max_words: int = option(16, help="longest description, in words")
    max_hedged: float = option(0.0, help="largest share of descriptions that may be unsure (possibly, unclear)")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_turns(self.turns)

    def conversation(self, tagged: Tagged, rng: Random) -> Conversation:
        """As many turns as are drawn, each about another tag, in either direction with equal chance."""
        labels, names = labels_and_names(tagged.record)
        known = {
            label: text
            for label, text in unique_descriptions(tagged.record).items()
            if len(text.split()) <= self.max_words and not labels.cited(text)
        }
        request = Request(
            image=tagged.image,
            messages=(Message("user", ""),),
            system=description_system(labels, tagged.record, self.max_words),
            examples=self._examples(tagged),
            max_tokens=token_limit(self.max_words * len(labels.names)),
            seed=rng.getrandbits(31),
            truth=list_text(known) or None,
            no_truth="it tells no mark from all the others",
        )
        task = ListTask(labels=labels, names=names, limits=self, more_checks=lambda texts: _faults(texts, labels))
        texts = yield from ask_list(request, task, truth=known)
        if len(texts) < self.turns[0]:
            raise Rejected("too few questions", f"{len(texts)} marks can be told apart, fewer than {self.turns[0]}")
        chosen = rng.sample([*texts], min(rng.randint(*self.turns), len(texts)))
        return turns_of([_exchange(label, texts[label].rstrip("."), rng) for label in chosen])

    def describe(self) -> dict[str, Any]:
        """A hash over the system message, examples, repairs and the wordings of the turns."""
        from data_gen.prompts.examples import GARDEN_DESCRIPTIONS, TABLE_DESCRIPTIONS, wording_hash

        own = (GARDEN_DESCRIPTIONS, TABLE_DESCRIPTIONS, FAULTS, DESCRIBE_TAG, DESCRIBE_TAG_ANSWERS, FIND_DESCRIBED)
        more = (FIND_DESCRIBED_ANSWERS, FIND_THE, FIND_THE_ANSWERS)
        return {"wording_sha256": wording_hash([*TEMPLATES, *map(str, own + more)])}

    def _examples(self, tagged: Tagged) -> tuple:
        from data_gen.prompts.examples import description_examples

        return description_examples(tagged.record.preset) if self.examples else ()


def _faults(texts: Mapping[str, str], labels: Labels) -> list[Finding]:
    return [*uniqueness_findings(texts), *mention_findings(texts, labels)]


def _exchange(label: str, description: str, rng: Random) -> Exchange:
    words = {"tag": label, "description": description, "the": _definite(description)}
    questions: tuple[str, ...] = FIND_THE if words["the"] else FIND_DESCRIBED
    answers: tuple[str, ...] = FIND_THE_ANSWERS if words["the"] else FIND_DESCRIBED_ANSWERS
    if rng.random() < 0.5:
        questions, answers = DESCRIBE_TAG, DESCRIBE_TAG_ANSWERS if words["the"] else ("{description}",)
    return Exchange(rng.choice(questions).format(**words), sentence(rng.choice(answers).format(**words)))


def _definite(description: str) -> str:
    """The description as it stands inside a sentence: "A man in red" -> "the man in red"; "" where it does not fit."""
    first, blank, rest = description.partition(" ")
    return f"the {rest}" if first.lower() in ("the", "a", "an") and blank and ". " not in rest else ""

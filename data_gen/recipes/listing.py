"""List every mark, one by one: the training signal of SoM-LLaVA (arXiv 2404.16375, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from data_gen.checks.findings import Finding, ListLimits
from data_gen.checks.listing import list_text
from data_gen.checks.wording import shortened
from data_gen.prompts.repair import FAULTS
from data_gen.prompts.system import listing_system
from data_gen.recipes import RECIPES
from data_gen.recipes.checked import CheckedRecipe, ListTask, ask_list, labels_and_names, token_limit
from data_gen.recipes.instructions import FAMILIES, instructions
from data_gen.requests import Conversation, Example, Message, Request, Tagged, Turn
from llava_som.config_file import option
from llava_som.marks.names import spelled_out
from llava_som.marks.parse import normalize_name

if TYPE_CHECKING:
    from data_gen.checks.labels import Labels
    from llava_som.marks.presets import Preset


@RECIPES.register("listing")
@dataclass(frozen=True, kw_only=True)
class ListingRecipe(ListLimits, CheckedRecipe):
    """One question, one list that names every mark once and in order."""

    needs: ClassVar[Literal["names"]] = "names"

    style: Literal["lines", "sentence"] = option(
        "lines", help="lines: an item on each; sentence: 1. person, 2. cat, 3. dog."
    )
    instructions: Literal["any", "every_object", "some_regions"] = option(
        "any",
        help="which sentences ask for the list: those that say every object is tagged, or that some regions are; "
        "any: both where nothing else is in the picture (source=scenes), the second for photos",
    )
    examples_file: Path | None = option(
        None, help="LLaVA JSON of tagged pictures with lists of your own, shown instead of the built-in examples"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples_file is not None:
            if not self.examples:
                raise ValueError(
                    f"examples_file={self.examples_file}: is not read with examples=false. Drop one of them."
                )
            from data_gen.prompts.examples import file_examples

            file_examples(self.examples_file)

    def conversation(self, tagged: Tagged, rng: Random) -> Conversation:
        """One of the instructions, all equally likely, and the list.

        A model does not see the instruction: it gets the picture behind the worked examples.
        """
        labels, names = labels_and_names(tagged.record)
        question = rng.choice(instructions(self.instructions, labels.word, self.style, tagged.record))
        truth = {label: spelled_out(names[label] or "") for label in labels.names}
        nameless = [label for label in labels.names if not names[label]]
        request = Request(
            image=tagged.image,
            messages=(Message("user", ""),),
            system=listing_system(labels, tagged.record, self.style, self.max_words),
            examples=self._examples(tagged.record.preset),
            max_tokens=token_limit(self.max_words * len(labels.names)),
            seed=rng.getrandbits(31),
            truth=None if nameless else list_text(truth, self.style),
            no_truth=f"there is no class name for mark {', '.join(nameless)}",
        )
        task = ListTask(labels=labels, names=names, limits=self, more_checks=lambda texts: self._misread(texts, labels))
        texts = yield from ask_list(request, task, truth)
        return [Turn("human", f"<image>\n{question}"), Turn("gpt", list_text(texts, self.style))]

    def describe(self) -> dict[str, Any]:
        """A hash over the system message, examples, repairs and instructions."""
        from data_gen.prompts.examples import (
            GARDEN_LIST,
            GARDEN_NAMES,
            TABLE_LIST,
            TABLE_NAMES,
            example_texts,
            file_examples,
            wording_hash,
        )
        from data_gen.prompts.system import TEMPLATES

        own = [str(table) for table in (GARDEN_LIST, GARDEN_NAMES, TABLE_LIST, TABLE_NAMES)]
        shown = example_texts(file_examples(self.examples_file)) if self.examples_file else own
        return {"wording_sha256": wording_hash([*TEMPLATES, *shown, str(FAULTS), str(FAMILIES)])}

    def _examples(self, preset: Preset) -> tuple[Example, ...]:
        from data_gen.prompts.examples import file_examples, listing_examples

        if not self.examples:
            return ()
        return file_examples(self.examples_file) if self.examples_file else listing_examples(preset, self.style)

    def _misread(self, texts: Mapping[str, str], labels: Labels) -> list[Finding]:
        """A finding where the list as training would see it reads as other items: one of them looks like two."""
        written = list_text(texts, self.style)
        read = [(item.label, normalize_name(item.text)) for item in labels.items(written)]
        if read == [(label, normalize_name(text)) for label, text in texts.items()]:
            return []
        return [Finding("items that run into each other", shortened(written, 200))]

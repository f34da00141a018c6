"""Questions with a few possible answers, and which of these a model would give: the score that heads are calibrated by.

The answer is the choice whose first token is the likeliest next token after the prompt, so that an example costs one
pass and nothing is generated.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin

from llava_som.data.record_images import open_record_image
from llava_som.data.schema import ImagePart, Sample
from llava_som.data.sources import load_records


@dataclass(frozen=True)
class ChoiceExample:
    """A prompt, and what may follow it.

    Attributes:
        prompt: text that a model reads as it stands, or a conversation that goes through its chat template.
        choices: texts of which one follows, with the space that belongs before it.
        answer: number of the right one.
        dataset: scores are counted by it.
        root: folder that image paths start from.
        name: for errors.
    """

    prompt: str | Sample
    choices: list[str]
    answer: int
    dataset: str
    root: Path
    name: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any], root: Path, dataset: str) -> ChoiceExample:
        """Read a record: `choices`, `answer` (one of them), `dataset`, and `prompt` or a conversation with images.

        A conversation has any form that `Sample` knows, ending with the user's turn.

        Raises:
            ValueError: says what is wrong with it.
        """
        choices, answer = record.get("choices"), record.get("answer")
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
            raise ValueError(f"choices={choices!r}: must be a list of two texts or more, none of them empty.")
        if len(set(choices)) < len(choices) or answer not in choices:
            raise ValueError(f"answer={answer!r}, choices={choices!r}: the answer must be one of different choices.")
        place = choices.index(answer), str(record.get("dataset", dataset)), root, str(record.get("id", ""))
        turns = [key for key in ("prompt", "messages", "conversations") if key in record]
        if len(turns) != 1:
            raise ValueError(f"has {' and '.join(turns) or 'no question'}: give prompt (a text) or messages (a chat).")
        if turns == ["prompt"]:
            if not isinstance(record["prompt"], str) or not record["prompt"]:
                raise ValueError(f"prompt={record['prompt']!r}: must be a text. A chat goes into messages.")
            return cls(record["prompt"], choices, *place)
        asked = record[turns[0]]
        if not isinstance(asked, list):
            raise ValueError(f"{turns[0]}={asked!r}: must be a list of turns.")
        answered = {**record, turns[0]: [*asked, {"role": "assistant", "content": answer}]}
        return cls(Sample.from_record(answered), choices, *place)

    def conversation(self, with_images: bool) -> list[dict[str, Any]]:
        """Chat messages up to the answer; without images, as a tokenizer's template wants them, contents are texts."""
        assert isinstance(self.prompt, Sample)
        messages, files = self.prompt.messages[:-1], iter(self.prompt.images)
        if not with_images:
            if self.prompt.images:
                raise ValueError(f"{self.name}: shows images, which a model of text alone cannot read.")
            return [{"role": message.role, "content": message.text} for message in messages]
        return [
            {
                "role": message.role,
                "content": [
                    {"type": "image", "image": open_record_image(next(files), self.root)}
                    if isinstance(part, ImagePart)
                    else {"type": "text", "text": part.text}
                    for part in message.content
                ],
            }
            for message in messages
        ]


def read_examples(file: Path, image_root: Path | None = None) -> list[ChoiceExample]:
    """The examples of a .jsonl or .json file; those that name no dataset are of one named like the file.

    Raises:
        ValueError: a file that cannot be read, an empty one, or a wrong example, which it names.
    """
    examples = []
    for record in load_records(file):
        try:
            examples.append(ChoiceExample.from_record(record, image_root or file.parent, file.stem))
        except ValueError as error:
            raise ValueError(f"{file}, example {record['id']}: {error}") from None
    if not examples:
        raise ValueError(f"{file}: holds no example.")
    return examples


def draw_examples(examples: Sequence[ChoiceExample], per_dataset: int, seed: int) -> list[ChoiceExample]:
    """At most so many examples of each dataset, by chance, in the order in which they were."""
    places = defaultdict(list)
    for place, example in enumerate(examples):
        places[example.dataset].append(place)
    drawn = random.Random(seed)
    chosen = [drawn.sample(own, min(per_dataset, len(own))) for own in places.values()]
    return [examples[place] for place in sorted(chain.from_iterable(chosen))]


def digest(examples: Sequence[ChoiceExample]) -> str:
    """Twelve digits that tell sets of examples apart."""
    hashed = hashlib.sha256()
    for example in examples:
        asked = example.prompt if isinstance(example.prompt, str) else example.prompt.model_dump(exclude={"id"})
        hashed.update(json.dumps([asked, example.choices, example.answer, example.dataset]).encode())
    return hashed.hexdigest()[:12]


@dataclass(frozen=True)
class Batch:
    """Examples that are read together.

    Attributes:
        places: their numbers.
        inputs: of the model, left-padded.
        tokens: first token of each choice, for each example.
    """

    places: list[int]
    inputs: dict[str, Any]
    tokens: list[list[int]]


class ChoiceScorer:
    """Whether a model gives the right answers. Inputs are made once and kept, in main memory.

    Args:
        model: of transformers, with `generate`.
        processor: its processor, or the tokenizer of a model of text alone.
        examples: at least one.
        batch_size: how many are read at once.

    Raises:
        ValueError: choices with one first token, or an example that the model cannot read.
    """

    def __init__(self, model: Any, processor: Any, examples: Sequence[ChoiceExample], batch_size: int = 8) -> None:
        self.model = model
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.answers = torch.tensor([example.answer for example in examples])
        if batch_size > 1 and self.tokenizer.pad_token is None:
            raise ValueError(
                f"batch_size={batch_size}: this tokenizer has no padding token. Set tokenizer.pad_token = "
                "tokenizer.eos_token (padding is masked), or batch_size=1."
            )
        texts = [self._text(example) for example in examples]
        tokens = [self._first_tokens(*pair) for pair in zip(examples, texts, strict=True)]
        order = sorted(
            range(len(examples)), key=lambda place: (isinstance(examples[place].prompt, str), len(texts[place]))
        )
        self.batches = []
        for _, group in groupby(order, key=lambda place: isinstance(examples[place].prompt, str)):
            alike = list(group)
            for start in range(0, len(alike), batch_size):
                places = alike[start : start + batch_size]
                inputs = self._inputs([examples[place] for place in places], [texts[place] for place in places])
                self.batches.append(Batch(places, inputs, [tokens[place] for place in places]))

    @torch.inference_mode()
    def logits(self, batch: Batch) -> Tensor:
        """Of the next token, as the model gives them, `[B, V]`; one call of the model, without a cache."""
        inputs = {key: value.to(self.model.device) for key, value in batch.inputs.items()}
        options = {"max_new_tokens": 1, "do_sample": False, "num_beams": 1, "use_cache": False}
        output = self.model.generate(**inputs, **options, output_logits=True, return_dict_in_generate=True)
        return output.logits[0]

    def is_right(self, batch: Batch, logits: Tensor) -> Tensor:
        """Whether the likeliest choice is the answer, bool `[B]`."""
        pairs = zip(logits, batch.tokens, strict=True)
        return torch.tensor([int(row[tokens].argmax()) for row, tokens in pairs]) == self.answers[batch.places]

    def _text(self, example: ChoiceExample) -> str:
        """What the tokenizer reads, images as the template shows them."""
        if isinstance(example.prompt, str):
            return example.prompt
        conversation = example.conversation(with_images=isinstance(self.processor, ProcessorMixin))
        return self.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)

    def _inputs(self, examples: Sequence[ChoiceExample], texts: Sequence[str]) -> dict[str, Any]:
        from llava_som.inference import Assistant

        is_text = isinstance(examples[0].prompt, str)
        if not is_text and isinstance(self.processor, ProcessorMixin):
            conversations = [example.conversation(with_images=True) for example in examples]
            inputs = Assistant(self.model, self.processor).inputs(conversations)
        else:
            padding = {"padding": len(texts) > 1, "padding_side": "left"}
            inputs = self.tokenizer(list(texts), add_special_tokens=is_text, return_tensors="pt", **padding)
        return {key: value.cpu() for key, value in inputs.items() if key != "token_type_ids"}

    def _first_tokens(self, example: ChoiceExample, text: str) -> list[int]:
        own, *longer = self.tokenizer(
            [text, *(text + choice for choice in example.choices)], add_special_tokens=False
        ).input_ids
        for choice, ids in zip(example.choices, longer, strict=True):
            if ids[: len(own)] != own or len(ids) == len(own):
                raise ValueError(
                    f"{example.name}: the choice {choice!r} has no first token of its own after {text[-20:]!r}. A "
                    "space between the two belongs to the choice."
                )
        tokens = [ids[len(own)] for ids in longer]
        if len(set(tokens)) < len(tokens):
            shared = self.tokenizer.decode(max(tokens, key=tokens.count))
            raise ValueError(
                f"{example.name}: of the choices {example.choices!r}, two begin with the token {shared!r}, by which "
                "they cannot be told apart. Name them by letters, and list those in the question."
            )
        return tokens

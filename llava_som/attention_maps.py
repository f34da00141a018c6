"""Attention of a question and its answer to the image, in numbers: by layer range and token, sinks and top patches.

The answer is generated once and then read back token by token, without and with an intervention, so that rows of both
are rows of the same tokens and differ by the intervention alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from llava_som.attention.base import Intervention
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.record import AttentionRecord, SinkRule, record_attention
from llava_som.attention.sinks import resolved_dims
from llava_som.inference import Assistant
from llava_som.marks.parse import parse_items
from llava_som.page_encoder import PageTokens, encode_pages
from llava_som.token_places import TokenPlaces, places_of

COLUMN_FACTOR = 5.0
"""An image token is a sink by its column if its mean attention is so many times that of the image's tokens; the 5 is
that of ACT (arXiv 2406.15765)."""
_TAU, _TAU_REL = 20.0, 0.3125  # VAR's threshold; as a share of sqrt(D) in decoders narrower than its 4096


@dataclass(frozen=True)
class LayerRange:
    """Layers `first` to `last`, and what they are called."""

    first: int
    last: int
    name: str = ""

    @property
    def layers(self) -> list[int]:
        """Their numbers."""
        return list(range(self.first, self.last + 1))

    def __str__(self) -> str:
        numbers = f"layer {self.first}" if self.first == self.last else f"layers {self.first}-{self.last}"
        return f"{self.name}, {numbers}" if self.name else numbers


def layer_ranges(given: str | None, depth: int) -> list[LayerRange]:
    """Ranges as people write them, "10-12" or "0-3,10-12,31"; None: an early, a middle and a late third.

    Raises:
        ValueError: no ranges, or layers that a decoder of `depth` layers lacks.
    """
    if given is None:
        thirds = [part.tolist() for part in np.array_split(np.arange(depth), min(3, depth))]
        names = {1: [""], 2: ["early", "late"]}.get(len(thirds), ["early", "middle", "late"])
        return [LayerRange(part[0], part[-1], name) for part, name in zip(thirds, names, strict=True)]
    ranges = []
    for word in given.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", word)
        if found is None:
            raise ValueError(f"layers={given!r}: write ranges of layers, such as 10-12 or 0-3,10-12.")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < depth:
            raise ValueError(
                f"layers={word.strip()}: this decoder has {depth} layers; allowed are 0 to {depth - 1}, the smaller "
                "number first."
            )
        ranges.append(LayerRange(first, last))
    return ranges


@dataclass(frozen=True)
class AnswerToken:
    """A token of the answer: its words, and where they begin and end in the answer's text."""

    text: str
    start: int
    stop: int


@dataclass(frozen=True)
class Tag:
    """A tag's number in an answer.

    Attributes:
        number: of the tag.
        tokens: numbers of the answer's tokens that write it.
    """

    number: int
    tokens: tuple[int, ...]


def answer_tokens(tokenizer: Any, ids: Sequence[int]) -> list[AnswerToken]:
    """The tokens of an answer with their words; what is shown of a character goes to the token that completes it."""
    found, before = [], ""
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        text = text.rstrip("\ufffd") if count < len(ids) else text
        start = len(before)
        found.append(AnswerToken(text[start:], start, max(start, len(text))))
        before = text if len(text) > start else before
    return found


def tags_of(answer: str, tokens: Sequence[AnswerToken]) -> list[Tag]:
    """The numbers that an answer gives its items, and their tokens; all its numbers where it is no listing."""
    numbers = [(int(found[0]), found.span()) for found in re.finditer(r"(?<![\d.])\d{1,3}(?![\d]|\.\d)", answer)]
    if listed := parse_items(answer).ids:
        rest, numbers = iter(numbers), []
        for wanted in listed:
            ahead = list(rest)
            place = next((place for place, (number, _) in enumerate(ahead) if number == wanted), None)
            numbers += [] if place is None else [ahead[place]]
            rest = iter(ahead if place is None else ahead[place + 1 :])
    tags = []
    for number, (start, stop) in numbers:
        of_tag = tuple(i for i, token in enumerate(tokens) if token.start < stop and start < token.stop)
        tags.append(Tag(number, of_tag))
    return tags


def top_tokens(values_N: np.ndarray, has_place: np.ndarray, count: int) -> list[int]:
    """The image tokens with the most attention, most first; those without a place on the image are left out."""
    order = np.argsort(-values_N, kind="stable")
    return [int(number) for number in order if has_place[number] and values_N[number] > 0][:count]


@dataclass(frozen=True)
class AttentionMaps:
    """What a question and its answer attend to. N image tokens, G layer ranges.

    Attributes:
        image: RGB, as the model was given it.
        question: of the user.
        answer: of the model without an intervention; every row is of this text.
        tokens: of the answer.
        places: where image tokens lie.
        ranges: of layers.
        before: attention without an intervention, mean over heads and the layers of each range, float32 `[G, R, N]`;
            rows are the prompt's tokens after the image, then those of the answer.
        after: the same with it, or None.
        is_sink: bool `[G, N]`, in most layers of a range, without the intervention.
        sinks_by: how sinks were found, in words.
        intervention: its name, or None.
        other_answer: what the model answers with it, or None.
    """

    image: Image.Image
    question: str
    answer: str
    tokens: list[AnswerToken]
    places: TokenPlaces
    ranges: list[LayerRange]
    before: np.ndarray
    after: np.ndarray | None
    is_sink: np.ndarray
    sinks_by: str
    intervention: str | None = None
    other_answer: str | None = None

    @property
    def sides(self) -> list[tuple[str, np.ndarray]]:
        """Attention without and, where there is one, with the intervention, and what to call it."""
        if self.after is None:
            return [("", self.before)]
        return [(f"without {self.intervention}", self.before), (f"with {self.intervention}", self.after)]

    @property
    def prompt_rows(self) -> int:
        """Rows before those of the answer."""
        return self.before.shape[1] - len(self.tokens)

    @cached_property
    def tags(self) -> list[Tag]:
        """The tags that the answer names."""
        return tags_of(self.answer, self.tokens)

    def of_question(self, rows_GRN: np.ndarray) -> np.ndarray:
        """Mean over the prompt's tokens after the image, `[G, N]`."""
        return rows_GRN[:, : self.prompt_rows].mean(axis=1)

    def of_answer(self, rows_GRN: np.ndarray) -> np.ndarray:
        """Mean over the answer's tokens, `[G, N]`."""
        return rows_GRN[:, self.prompt_rows :].mean(axis=1)

    def of_tokens(self, rows_GRN: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        """Mean over some of the answer's tokens, `[G, N]`."""
        return rows_GRN[:, [self.prompt_rows + number for number in numbers]].mean(axis=1)


def attention_maps(
    assistant: Assistant,
    image: Image.Image,
    question: str,
    *,
    intervention: Intervention | None = None,
    layers: str | None = None,
    sink_dims: list[int] | str | None = None,
    max_new_tokens: int = 128,
) -> AttentionMaps:
    """Answer a question about an image and record what its tokens attend to.

    Args:
        assistant: model and processor.
        image: RGB.
        question: of the user.
        intervention: compare with the model under it.
        layers: ranges of layers, "10-12" or "0-3,10-12"; by default an early, a middle and a late third.
        sink_dims: dimensions that sinks are known by, or "auto" to find them. By default the intervention's or those
            of the table in `llava_som.attention.sinks`; in other decoders sinks are found by their columns.
        max_new_tokens: at most so many tokens of an answer.

    Raises:
        ValueError: a model whose image tokens have no known place, layers it lacks, or what the intervention refuses.
    """
    decoder = DecoderLayers.of(assistant.model)
    ranges = layer_ranges(layers, len(decoder.modules))
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    inputs = assistant.inputs([[{"role": "user", "content": content}]])
    tokens = _page_tokens(assistant, inputs)
    places = places_of(assistant.model.config, assistant.processor.image_processor, image, tokens)
    rule, sinks_by = _sink_rule(decoder, intervention, sink_dims)
    answer_ids = _generated(assistant, inputs, max_new_tokens)
    recorded = sorted({layer for part in ranges for layer in part.layers})
    before = _read_back(assistant, inputs, answer_ids, recorded, rule)
    after = other_answer = None
    if intervention is not None:
        with intervention.on(assistant.model):
            after = _of_ranges(_read_back(assistant, inputs, answer_ids, recorded, None), ranges)
            other_answer = _text(assistant, _generated(assistant, inputs, max_new_tokens))
    rows = _of_ranges(before, ranges)
    assert rows.shape[-1] == places.count, "places and attention are of different tokens"
    return AttentionMaps(
        image=image,
        question=question,
        answer=_text(assistant, answer_ids),
        tokens=answer_tokens(assistant.processor.tokenizer, answer_ids),  # type: ignore[attr-defined]
        places=places,
        ranges=ranges,
        before=rows,
        after=after,
        is_sink=_sinks(before, ranges, rows),
        sinks_by=sinks_by,
        intervention=None if intervention is None else intervention.name,
        other_answer=other_answer,
    )


def _of_ranges(record: AttentionRecord, ranges: Sequence[LayerRange]) -> np.ndarray:
    return np.stack([record.mean(part.layers).numpy() for part in ranges])


@torch.inference_mode()
def _page_tokens(assistant: Assistant, inputs: dict[str, Any]) -> PageTokens:
    """The image's tokens as the decoder sees them, with what pruning left of them."""
    pixel_values = inputs["pixel_values"]
    pages = assistant.model.config.pages_of(len(pixel_values), inputs.get("image_grids"))
    return encode_pages(assistant.model, pixel_values, pages)


@torch.inference_mode()
def _generated(assistant: Assistant, inputs: dict[str, Any], max_new_tokens: int) -> list[int]:
    """Token ids of a greedy answer, without what ends it."""
    output = assistant.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    ids = output[0, inputs["input_ids"].shape[1] :].tolist()
    special = set(assistant.processor.tokenizer.all_special_ids)  # type: ignore[attr-defined]
    while ids and ids[-1] in special:
        ids.pop()
    return ids


def _text(assistant: Assistant, ids: Sequence[int]) -> str:
    tokenizer: Any = assistant.processor.tokenizer  # type: ignore[attr-defined]
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@torch.inference_mode()
def _read_back(
    assistant: Assistant,
    inputs: dict[str, Any],
    answer: Sequence[int],
    layers: list[int],
    sinks: SinkRule | None,
) -> AttentionRecord:
    """Read the prompt and then the answer token by token, as if it were generated: sinks are found as they are then."""
    model = assistant.model
    prompt = model.encode_prompt(
        inputs["input_ids"], inputs["pixel_values"], inputs.get("image_grids"), inputs["attention_mask"]
    )
    mask: Tensor = torch.ones_like(prompt.input_ids) if prompt.attention_mask is None else prompt.attention_mask
    with record_attention(model, layers=layers, sinks=sinks) as record:
        output = model(
            input_ids=prompt.input_ids,
            image_features=prompt.image_features,
            attention_mask=mask,
            logits_to_keep=1,
            use_cache=True,
        )
        for token in answer:
            mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
            output = model(
                input_ids=mask.new_tensor([[token]]),
                attention_mask=mask,
                past_key_values=output.past_key_values,
                use_cache=True,
            )
    return record


def _sink_rule(
    decoder: DecoderLayers, intervention: Intervention | None, sink_dims: list[int] | str | None
) -> tuple[SinkRule | None, str]:
    """How sinks are found, and that in words."""
    tau = min(_TAU, _TAU_REL * decoder.width**0.5)
    parts = () if intervention is None else intervention.parts
    editing = next((part for part in parts if hasattr(part, "sink_dims")), None)
    if sink_dims is None and editing is not None:
        bound: Any = editing.bound(decoder)
        sink_dims = bound.sink_dims
        tau = bound.tau if bound.tau_rel is None else bound.tau_rel * decoder.width**0.5
    try:
        dims = resolved_dims(sink_dims, decoder, tau)  # type: ignore[arg-type]
    except ValueError:
        if sink_dims is not None:
            raise
        how = f"image tokens with more than {COLUMN_FACTOR:g} times the image's mean attention"
        return None, f"{how} (no sink dimensions of this decoder are known)"
    if wrong := [number for number in dims if not 0 <= number < decoder.width]:
        raise ValueError(f"sink_dims={wrong}: hidden states have {decoder.width} dimensions, 0 to {decoder.width - 1}.")
    named = ", ".join(map(str, dims))
    return SinkRule(dims, tau), f"image tokens that reach {tau:.3g} in sink dimension{'s' * (len(dims) > 1)} {named}"


def _sinks(record: AttentionRecord, ranges: Sequence[LayerRange], rows_GRN: np.ndarray) -> np.ndarray:
    """Which image tokens are sinks in most layers of a range, or by their columns, bool `[G, N]`."""
    if record.is_sink:
        shares = [torch.stack([record.is_sink[layer] for layer in part.layers]).float().mean(0) for part in ranges]
        return (torch.stack(shares) >= 0.5).numpy()
    columns = rows_GRN.mean(axis=1)
    return columns > COLUMN_FACTOR * columns.mean(axis=1, keepdims=True)

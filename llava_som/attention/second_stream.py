"""A second stream: the model reads other inputs beside `generate`, with a cache of its own, and follows its answer.

Contrastive methods compare what the model says with what it would say of a worse picture or of none. `generate` itself
prepares the stream's inputs, so masks, positions and image features are right for every model it works on; each step
costs one more call of the model, and the stream's cache goes when `generate` returns.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor
from transformers.generation.utils import MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL

_BY_ROW = ("attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
_READ_ONCE = {*MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL, "image_features"}  # with the prompt
_TOKENS = ("pad_token_id", "eos_token_id", "bos_token_id")


def stream_inputs(name: str, model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What of the arguments of `generate` a second stream reads: the model's inputs, with a mask.

    Args:
        name: of the method, for errors.
        model: the model.
        given: arguments of `generate`, by name.

    Raises:
        ValueError: what a second stream cannot follow: no token ids, no cache, one that holds tokens already, or
            assisted decoding, which takes tokens back.
    """
    asked = generation_settings(model, given)
    for setting in ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit"):
        if asked.get(setting) is not None:
            raise ValueError(
                f"{setting} is set: {name} reads along with a second stream, which cannot take back the tokens that "
                "assisted decoding rejects. Leave it out."
            )
    if asked.get("use_cache") is False:
        raise ValueError(
            f"use_cache=False: {name} reads along with a second stream, which needs a cache. Leave it out."
        )
    cached = given.get("past_key_values")
    if cached is not None and cached.get_seq_length():
        raise ValueError(
            f"The cache holds {cached.get_seq_length()} tokens that the second stream of {name} has not read. Give the "
            "whole conversation without a cache."
        )
    if given.get("input_ids") is None or given.get("inputs_embeds") is not None:
        raise ValueError(f"{name} reads the prompt a second time and needs input_ids, not inputs_embeds.")
    settings = {*vars(GenerationConfig()), *inspect.signature(GenerationMixin.generate).parameters, "past_key_values"}
    inputs = {key: value for key, value in given.items() if key not in settings and value is not None}
    inputs.setdefault("attention_mask", _mask_of(inputs["input_ids"], asked))
    return inputs | {key: asked[key] for key in _TOKENS if key in asked}


def generation_settings(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate` is asked for, however it is said."""
    config = given.get("generation_config")
    levels = (vars(model.generation_config), vars(config) if config is not None else {}, given)
    return {key: value for level in levels for key, value in level.items() if value is not None}


def _mask_of(input_ids: Tensor, asked: Mapping[str, Any]) -> Tensor:
    """The mask of a prompt without one, as transformers infers it."""
    pad, ends = asked.get("pad_token_id"), asked.get("eos_token_id")
    if pad is None or pad in (ends if isinstance(ends, list) else [ends]):
        return torch.ones_like(input_ids)
    return (input_ids != pad).to(input_ids.dtype)


class SecondStream:
    """The model's reading of other inputs, row by row beside `generate`.

    Its prompts may have other lengths than those of `generate`. Beams are followed: what a row has read is looked up by
    its tokens, and the rows of the cache are taken over from there.

    Args:
        model: the model.
        inputs: of all prompts, as `stream_inputs` gives them.
        around: a context for every call of the model; `Session.paused` leaves the model's attention unedited.
    """

    def __init__(
        self, model: Any, inputs: Mapping[str, Any], around: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._model = model
        self._inputs: dict[str, Any] = dict(inputs)
        self._around = around
        self._has_deltas = [part for part in model.modules() if hasattr(part, "rope_deltas")]
        self._base: Any = None  # the model without adapters around it; set once the prompts are read
        self._kwargs: dict[str, Any] = {}  # of its next step, as generate keeps them
        self._ids = torch.empty(0)  # its own, with its own prompts
        self._seen = torch.empty(0)  # the sequences of generate that its rows have read
        self._logits = torch.empty(0)
        self._batch = 0
        self.prompt_length = 0  # of generate

    @property
    def cache(self) -> Any:
        """Of the rows that were read last; None before."""
        return self._kwargs.get("past_key_values")

    def logits(self, input_ids: Tensor) -> Tensor:
        """Logits of the token after each sequence of `generate`, `[B, V]`, from `input_ids` `[B, L]`.

        Called at every step; every sequence is one of the last call, in any order, and a token more.
        """
        if self._base is None:
            self._read(input_ids)
            return self._logits[self._parents(input_ids, strict=True)]
        self._go_on(self._parents(input_ids[:, :-1], strict=True), input_ids)
        return self._logits

    def try_out(self, input_ids: Tensor, candidates: Tensor) -> None:
        """Read each of `candidates`, `[B, N]`, after its sequence; `cache` then has B * N rows.

        Called at every step; every sequence ends in a candidate of the last call. A row that has ended is padded by
        `generate` with a token that was none: any row goes on for it, and what it reads is not used.
        """
        if self._base is None:
            self._read(input_ids)
        count = candidates.shape[1]
        parents = self._parents(input_ids, strict=False).repeat_interleave(count)
        longer = torch.cat([input_ids.repeat_interleave(count, dim=0), candidates.reshape(-1, 1)], dim=1)
        self._go_on(parents, longer)

    def _read(self, input_ids: Tensor) -> None:
        """The prompts, prepared by the model's own `generate` and read in one call."""
        self._batch = len(self._inputs["input_ids"])
        self._seen, self.prompt_length = input_ids[:: len(input_ids) // self._batch], input_ids.shape[1]
        inputs, self._inputs = self._inputs, {}
        with self._undisturbed():
            type(self._model).generate(
                self._model,
                **inputs,
                custom_generate=self._read_prepared,
                num_beams=1,
                num_return_sequences=1,
                max_new_tokens=1,
                use_cache=True,
                cache_implementation="dynamic",
            )

    def _read_prepared(self, model: Any, input_ids: Tensor, *_: Any, **kwargs: Any) -> Tensor:
        for name in ("logits_processor", "stopping_criteria", "generation_config", "synced_gpus"):
            kwargs.pop(name, None)
        self._base, self._ids = model, input_ids
        outputs = model(
            **model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **kwargs), return_dict=True
        )
        if getattr(outputs, "past_key_values", None) is None:
            raise ValueError(
                f"{type(model).__name__} returns no cache, which a second stream needs. Use an intervention that edits "
                "attention alone."
            )
        self._keep(outputs, {key: value for key, value in kwargs.items() if key not in _READ_ONCE})
        return input_ids

    def _go_on(self, parents: Tensor, sequences: Tensor) -> None:
        """Let row i go on from row `parents[i]` with the last token of sequence i."""
        self._select(parents)
        self._ids = torch.cat([self._ids, sequences[:, -1:].to(self._ids.device)], dim=1)
        self._seen = sequences
        with self._undisturbed():
            prepared = self._base.prepare_inputs_for_generation(self._ids, next_sequence_length=1, **self._kwargs)
            outputs = self._base(**prepared, return_dict=True)
        self._keep(outputs, self._kwargs)

    def _keep(self, outputs: Any, kwargs: dict[str, Any]) -> None:
        self._logits = outputs.logits[:, -1].to(self._seen.device, torch.float32, copy=True)
        self._kwargs = self._base._update_model_kwargs_for_generation(outputs, kwargs)

    def _parents(self, sequences: Tensor, strict: bool) -> Tensor:
        """The row that has read each sequence, `[R]`; among rows alike the one in the same place."""
        if sequences.shape[1] != self._seen.shape[1]:
            raise ValueError(
                f"generate went from {self._seen.shape[1]} tokens to {sequences.shape[1] + strict}: a second stream "
                "follows decoding by one token at a time."
            )
        new, old = (part[:, self.prompt_length :].unflatten(0, (self._batch, -1)) for part in (sequences, self._seen))
        new, old = new.unsqueeze(2), old.unsqueeze(1)
        rank = 4 * (new == old).all(dim=-1).int()
        if not strict:
            rank += 2 * (new[..., :-1] == old[..., :-1]).all(dim=-1)
        if len(sequences) == len(self._seen):
            rank += torch.eye(new.shape[1], dtype=rank.dtype, device=rank.device)
        best, place = rank.max(dim=-1)
        if (best < 2).any():
            raise ValueError("generate goes on with tokens that the second stream has not read.")
        first = torch.arange(self._batch, device=place.device).unsqueeze(1) * old.shape[2]
        return (first + place).flatten()

    def _select(self, rows: Tensor) -> None:
        """Keep, reorder or repeat rows."""
        if torch.equal(rows, torch.arange(len(self._ids), device=rows.device)):
            return
        self._ids = self._ids[rows.to(self._ids.device)]
        for name in _BY_ROW:
            if (value := self._kwargs.get(name)) is not None:
                taken = rows.to(value.device)
                self._kwargs[name] = value[:, taken] if value.ndim == 3 else value[taken]
        self.cache.reorder_cache(rows)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Call the model and leave nothing in it that `generate`, or a next turn, would take for its own."""
        before = [part.rope_deltas for part in self._has_deltas]
        try:
            with self._around():
                yield
        finally:
            for part, deltas in zip(self._has_deltas, before, strict=True):
                part.rope_deltas = deltas


class Contrast(LogitsProcessor):
    """`log p + strength (log p - log p')` where `log p` is within `log cut` of its row's largest; nothing else is said.

    Rows keep their sum of probabilities, so that beams stay comparable. `p` is what earlier processors left, `p'` the
    second stream's.
    """

    def __init__(self, stream: SecondStream, strength: float, cut: float) -> None:
        self._stream, self._strength = stream, strength
        self._least = math.log(cut) if cut else -math.inf

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Scores `[B, V]` of the tokens after `input_ids`, `[B, L]`."""
        other = self._stream.logits(input_ids).to(scores)
        new = scores + self._strength * (scores.log_softmax(dim=-1) - other.log_softmax(dim=-1))
        new = new.masked_fill(scores < scores.amax(dim=-1, keepdim=True) + self._least, -torch.inf)
        return with_mass_of(scores, new)


def with_mass_of(scores: Tensor, new: Tensor) -> Tensor:
    """`new`, shifted so that each row's sum of probabilities is that of `scores`: 1 of log probabilities."""
    return new.log_softmax(dim=-1) + scores.logsumexp(dim=-1, keepdim=True)

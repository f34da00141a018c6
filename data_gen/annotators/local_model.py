"""Answers from a model in this process, in batches: no server to start, and a batch says what each request alone would.

Sampling is by the Gumbel-max trick (the largest of logit + Gumbel noise is a draw from the softmax; arXiv 1411.0030),
each request with a generator of its own seed, so that an answer does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from data_gen.annotators import ANNOTATORS
from data_gen.annotators.model import ModelAnnotator, chat, made_once
from data_gen.answer_cache import Reply, digest
from data_gen.requests import Answer, Rejected, Request
from llava_som.config_file import option

if TYPE_CHECKING:
    import torch

    from llava_som.inference import Assistant

logger = logging.getLogger(__name__)


@ANNOTATORS.register("local_model")
@dataclass(frozen=True, kw_only=True)
class LocalModelAnnotator(ModelAnnotator):
    """A checkpoint in this process: ours, LLaVA-1.5's or any image-text model of transformers."""

    transient_fields: ClassVar[frozenset[str]] = ModelAnnotator.transient_fields | {
        "device",
        "batch_size",
        "attn_implementation",
    }

    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: str = option("auto", help="float32, bfloat16, float16; auto: what suits device or checkpoint")
    batch_size: int = option(8, help="requests answered together; halved while they do not fit into memory")
    attn_implementation: str = option("auto", help="sdpa, eager, flash_attention_2 ...; auto: transformers' choice")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1.")

    @property
    def requests_per_call(self) -> int:
        """A batch."""
        return self.batch_size

    def question(self, request: Request) -> dict[str, Any]:
        """Model, messages with digests for pictures, and how the answer is drawn."""
        drawn = {"temperature": self.temperature, "top_p": self.top_p, "seed": request.seed}
        return {
            "model": self.model,
            "weights": self._weights,
            "dtype": self.dtype,
            "messages": chat(request, lambda image: {"type": "image", "image": digest(image)}),
            "max_tokens": self.longest(request),
            **(drawn if self.temperature else {}),
        }

    def answer(self, requests: Sequence[Request]) -> list[Answer | Rejected]:
        """Kept answers; the other requests go through the model together."""
        questions = [self.question(request) for request in requests]
        kept = {k: reply for k, question in enumerate(questions) if (reply := self.answers.read(question))}
        results = {k: reply.result() for k, reply in kept.items()}
        missing = [k for k in range(len(requests)) if k not in kept]
        for batch in (missing[k : k + self.batch_size] for k in range(0, len(missing), self.batch_size)):
            for k, said in zip(batch, self._replies([requests[k] for k in batch]), strict=True):
                if isinstance(said, Reply):
                    self.answers.write(questions[k], said)
                results[k] = said.result() if isinstance(said, Reply) else said
        return [results[k] for k in range(len(requests))]

    def describe(self) -> dict[str, Any]:
        """Model, sampling and precision."""
        return {**super().describe(), "dtype": self.dtype}

    @made_once
    def assistant(self) -> Assistant:
        """The model of this process; loaded on first use."""
        return load(self.model, self.device, self.dtype, self.attn_implementation)

    @cached_property
    def _weights(self) -> list[list[str | int]]:
        """Name, size and time of a local checkpoint's files: trained again in the same folder, it is another model."""
        files = sorted(Path(self.model).glob("*.safetensors"))
        return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]

    def _replies(self, requests: Sequence[Request]) -> list[Reply | Rejected]:
        """One for each request; a batch that does not fit into memory is halved."""
        import torch

        try:
            return self._generate(requests)
        except torch.OutOfMemoryError:
            pass  # what follows is outside of the handler: its traceback keeps the batch in memory
        if len(requests) == 1:
            return [Rejected("out of memory", f"even a single request; device={self.device} dtype={self.dtype}")]
        logger.warning("%d requests together do not fit into memory; halving the batch.", len(requests))
        torch.cuda.empty_cache()
        half = len(requests) // 2
        return self._replies(requests[:half]) + self._replies(requests[half:])

    def _generate(self, requests: Sequence[Request]) -> list[Reply]:
        import torch

        model, limits = self.assistant.model, [self.longest(request) for request in requests]
        inputs = self._inputs(requests)
        options: dict[str, Any] = {"do_sample": False, "max_new_tokens": max(limits)}
        if self.temperature:
            draw = SeededDraw([request.seed for request in requests], self.temperature, self.top_p)
            options["logits_processor"] = [draw]
        with torch.inference_mode():
            generated = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        read = inputs["attention_mask"].sum(1).tolist()
        rows = zip(generated.tolist(), limits, read, strict=True)
        return [self._reply(tokens[:limit], ends, prompt_tokens) for tokens, limit, prompt_tokens in rows]

    def _inputs(self, requests: Sequence[Request]) -> dict[str, Any]:
        conversations = [chat(request, lambda image: {"type": "image", "image": image.open()}) for request in requests]
        try:
            return self.assistant.inputs(conversations)
        except (ValueError, TypeError, IndexError) as error:
            pictures = 1 + max(len(request.examples) for request in requests)
            raise ValueError(
                f"model={self.model}: its processor does not take a conversation with {pictures} pictures ({error}). "
                "Ask without worked examples, or take a model for several images."
            ) from error

    def _reply(self, tokens: list[int], ends: set[int], prompt_tokens: int) -> Reply:
        """The reply in a row of generated tokens: up to the first that ends it; without one it was cut short."""
        length = next((k + 1 for k, token in enumerate(tokens) if token in ends), None)
        text = self.assistant.processor.batch_decode(
            [tokens[:length]], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )[0]
        return Reply(text.strip(), "stop" if length else "length", prompt_tokens, length or len(tokens))


class SeededDraw:
    """A logits processor that makes the largest score a draw from softmax(scores / temperature), row by row.

    Args:
        seeds: one for each row; a row's draws depend on nothing else.
        temperature: above 0.
        top_p: draw only from the likeliest tokens of this total probability; None for all.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float | None) -> None:
        self.seeds = seeds
        self.temperature = temperature
        self.top_p = top_p
        self._generators: list[torch.Generator] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V] with Gumbel noise, float32."""
        import torch
        from transformers import TopPLogitsWarper

        if not self._generators:
            self._generators = [torch.Generator(scores.device).manual_seed(seed) for seed in self.seeds]
        scores = scores.float() / self.temperature
        if self.top_p is not None:
            scores = TopPLogitsWarper(self.top_p)(input_ids, scores)
        rows = zip(scores, self._generators, strict=True)
        exponential = torch.stack([torch.empty_like(row).exponential_(generator=own) for row, own in rows])
        return scores - exponential.log()  # minus the log of an exponential variable is a Gumbel variable


def load(model: str, device: str, dtype: str, attn_implementation: str) -> Assistant:
    """A checkpoint of a format that llava_som reads, or else of any image-text model of transformers.

    Raises:
        ValueError, OSError: there is no checkpoint, its weights do not fit it, or the device cannot be used.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig

    from llava_som.checkpoints import checkpoint_format, named_dtype
    from llava_som.checkpoints.weights import load_complete
    from llava_som.inference import Assistant, load_assistant

    config, _ = PreTrainedConfig.get_config_dict(model)
    try:
        checkpoint_format(config)
    except ValueError:  # none that llava_som reads itself
        options: dict[str, Any] = {"dtype": "auto" if dtype == "auto" else named_dtype(dtype), "device_map": device}
        if attn_implementation != "auto":
            options["attn_implementation"] = attn_implementation
        return Assistant(
            load_complete(AutoModelForImageTextToText, model, options), AutoProcessor.from_pretrained(model)
        )
    return load_assistant(model, device, dtype, attn_implementation)

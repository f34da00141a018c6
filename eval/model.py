"""The lmms-eval adapter: requests of any public task become batches of conversations for `llava_som.inference`.

lmms-eval has two protocols. Chat models get messages, which covers all generation; simple models get a text and images,
and only they may run tasks that score given answers. Both classes here drive the same `Assistant`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from lmms_eval.utils import Collator
from PIL import Image
from tqdm import tqdm

from llava_som.images import open_image, to_rgb
from llava_som.inference import Assistant, InterventionSource, Message, load_assistant

Request = tuple[Any, ...]

_SAMPLING = ("temperature", "top_p", "top_k")
_ALWAYS = ("num_beams", "repetition_penalty", "length_penalty", "min_new_tokens")
# lmms-eval adds this stop to every task that states none; a chat answer may have paragraphs.
_IMPLIED_STOP = "\n\n"


class LlavaSomChat(lmms):
    """Any checkpoint `load_assistant` reads, as an lmms-eval chat model.

    Args:
        pretrained: model folder; unused when `assistant` is given.
        batch_size: conversations per forward pass.
        device, dtype, attn_implementation, pruning, intervention: as in `load_assistant`; under `torchrun` a rank takes
            its own GPU.
        assistant: a loaded model.

    Attributes:
        answered: requests so far.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "",
        batch_size: int | str = 1,
        device: str = "auto",
        dtype: str = "auto",
        attn_implementation: str = "auto",
        pruning: str | dict[str, Any] | None = None,
        intervention: InterventionSource | None = None,
        assistant: Assistant | None = None,
    ) -> None:
        super().__init__()
        if assistant is None:
            place = _rank_device(device)
            assistant = load_assistant(pretrained, place, dtype, attn_implementation, pruning, intervention)
        self.assistant = assistant
        self.answered = 0
        self.batch_size = int(batch_size)
        if _world_size() == 1:
            self.accelerator = None  # else lmms-eval makes one, and its process-wide state outlives the evaluation

    def __repr__(self) -> str:
        """Without an address: lmms-eval's response cache has it in its key, beside the fingerprint made in run.py."""
        return type(self).__name__

    @property
    def device(self) -> torch.device:
        """Where the weights are; lmms-eval gathers counts of several ranks there."""
        return self.assistant.model.device

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """One answer per request, greedy unless the task samples, cut at the task's stop strings."""

        def answer(batch: Sequence[Request]) -> list[str]:
            conversations = [self._conversation(request) for request in batch]
            return self._answer(conversations, self._generation_kwargs(batch[0]))

        return self._in_batches(requests, answer, self._generation_kwargs)

    def generate_until_multi_round(self, requests: list[Instance]) -> list[list[str]]:
        """All answers of each request, round by round: the task words the next question from the answers so far."""
        self.answered += len(requests)
        return [self._rounds(request.args) for request in self._progress(requests)]

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """Not asked of chat models: lmms-eval refuses such tasks for them. See `LlavaSomSimple`."""
        raise NotImplementedError("lmms-eval scores given answers with simple models only: run it with --force_simple.")

    def _conversation(self, request: Request) -> list[Message]:
        _, doc_to_messages, _, doc_id, task, split = request
        return _messages(doc_to_messages(self.task_dict[task][split][doc_id]))

    def _generation_kwargs(self, request: Request) -> dict[str, Any]:
        return request[2]

    def _rounds(self, request: Request) -> list[str]:
        _, doc_to_messages, generation_kwargs, doc_id, task, split = request
        document = self.task_dict[task][split][doc_id]
        answers: list[str] = []
        messages, done, info = doc_to_messages(document), False, None
        while not done:
            answers += self._answer([_messages(messages)], generation_kwargs)
            following = doc_to_messages(
                document, round_idx=len(answers), previous_output=list(answers), previous_round_info=info
            )
            messages, done, _, info = following if isinstance(following, tuple) else (None, True, None, None)
        return answers

    def _answer(self, conversations: list[list[Message]], generation_kwargs: dict[str, Any]) -> list[str]:
        options = generation_options(generation_kwargs)
        stops = options.get("stop_strings", [])
        return [_cut(text, stops) for text in self.assistant.answer(conversations, **options)]

    def _in_batches(
        self,
        requests: list[Instance],
        run: Callable[[Sequence[Request]], list[Any]],
        group: Callable[[Request], dict[str, Any]],
    ) -> list[Any]:
        """Run batches of one group, longest first (one too large fails at once); results in the requests' order."""
        order = Collator(
            [request.args for request in requests], lambda args: (-len(args[0]), args[0]), group, grouping=True
        )
        results: list[Any] = []
        with self._progress(total=len(requests)) as bar:
            for batch in order.get_batched(n=self.batch_size):
                results += run(batch)
                self.answered += len(batch)
                bar.update(len(batch))
        return order.get_original(results)

    def _progress(self, items: Sequence[Any] | None = None, total: int | None = None) -> tqdm:
        return tqdm(items, total=total, desc="Answering", unit="request", disable=self.rank != 0)


class LlavaSomSimple(LlavaSomChat):
    """The same model for lmms-eval's simple protocol, which adds scoring of given answers."""

    is_simple = True

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """Each continuation's mean negative log-likelihood (nats per token), and whether greedy decoding writes it.

        The sign is lmms-eval's, whose tasks prefer the smallest value (EvolvingLMMs-Lab/lmms-eval#370). The pair is
        wrapped because lmms-eval 0.7.3 turns a bare one into text (`unwrap_generation_output`), that no task can score.
        """
        return self._in_batches(requests, self._score, group=lambda _: {})

    def _conversation(self, request: Request) -> list[Message]:
        context, _, doc_to_visual, doc_id, task, split = request
        visuals = doc_to_visual(self.task_dict[task][split][doc_id]) or []
        return [_user_turn(visuals, context)]

    def _generation_kwargs(self, request: Request) -> dict[str, Any]:
        return request[1]

    def _rounds(self, request: Request) -> list[str]:
        context, generation_kwargs, doc_to_visual, doc_to_text, doc_id, task, split = request
        document = self.task_dict[task][split][doc_id]
        answers: list[str] = []
        visuals, done, info = doc_to_visual(document), False, None
        while not done:
            answers += self._answer([[_user_turn(visuals or [], context)]], generation_kwargs)
            visuals, context, done, _, info = doc_to_text(
                document, previous_output=list(answers), round_idx=len(answers), previous_round_info=info
            )
        return answers

    def _score(self, batch: Sequence[Request]) -> list[GenerationResult]:
        prompts, continued = [], []
        for request in batch:
            if len(request) == 2:  # a choice without its question, for mutual information
                prompt, continuation = [_user_turn([], request[0])], request[1]
            else:
                _, target, _, doc_id, task, split = request
                continuation = target(self.task_dict[task][split][doc_id]) if callable(target) else target
                prompt = self._conversation((*request[:1], None, *request[2:]))
            prompts.append(prompt)
            continued.append(
                [*prompt, {"role": "assistant", "content": [{"type": "text", "text": continuation.strip()}]}]
            )
        return [GenerationResult(pair) for pair in continuation_scores(self.assistant, prompts, continued)]


@torch.inference_mode()
def continuation_scores(
    assistant: Assistant, prompts: list[list[Message]], continued: list[list[Message]]
) -> list[tuple[float, bool]]:
    """Mean negative log-likelihood of each conversation's last message, and whether it is the greedy answer.

    Args:
        assistant: the model.
        prompts: conversations that end with a user turn.
        continued: the same ones with the answer to be scored appended, which may be unfinished.
    """
    model, processor = assistant.model, cast(Any, assistant.processor)
    template: dict[str, Any] = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    padding = {"processor_kwargs": {"padding": True, "padding_side": "left"}}
    inputs = processor.apply_chat_template(continued, continue_final_message=True, **template, **padding).to(
        model.device
    )
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    lengths = inputs["attention_mask"].sum(dim=1)
    scores = []
    with assistant.intervened():
        log_probs_BLV = model(**inputs).logits.float().log_softmax(dim=-1)
    for row, prompt in enumerate(prompts):
        asked = processor.apply_chat_template(prompt, add_generation_prompt=True, **template)["input_ids"].shape[1]
        count = max(1, int(lengths[row]) - asked)
        targets_T = inputs["input_ids"][row, -count:]
        predicted_TV = log_probs_BLV[row, -count - 1 : -1]
        loss = -predicted_TV.gather(1, targets_T[:, None]).mean()
        scores.append((float(loss), bool((predicted_TV.argmax(dim=-1) == targets_T).all())))
    return scores


def generation_options(generation_kwargs: dict[str, Any]) -> dict[str, Any]:
    """A task's `generation_kwargs` as options of `Assistant.answer`. Sampling needs a temperature above 0."""
    stated = {key: value for key, value in generation_kwargs.items() if value is not None}
    options = {key: stated[key] for key in _ALWAYS if key in stated}
    options["max_new_tokens"] = int(stated.get("max_new_tokens", stated.get("max_gen_toks", 1024)))
    if float(stated.get("temperature", 1.0 if stated.get("do_sample") else 0.0)) > 0:
        options |= {"do_sample": True} | {key: stated[key] for key in _SAMPLING if key in stated}
    until = stated.get("until", [])
    if stops := [stop for stop in ([until] if isinstance(until, str) else until) if stop and stop != _IMPLIED_STOP]:
        options["stop_strings"] = stops
    return options


def _messages(messages: list[dict[str, Any]]) -> list[Message]:
    """lmms-eval's messages in the shape of chat templates, images upright RGB."""
    chat = ChatMessages(messages=messages).to_hf_messages()
    return [message | {"content": [_part(part) for part in message["content"]]} for message in chat]


def _user_turn(visuals: Sequence[Any], text: str) -> Message:
    images = [_part({"type": "image", "image": visual}) for visual in visuals]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    image = part.get("image")
    if isinstance(image, Image.Image):
        return {"type": "image", "image": to_rgb(image)}
    if part["type"] == "image" and isinstance(image, str | Path):
        return {"type": "image", "image": open_image(image)}
    kind = part["type"] if part["type"] != "image" else type(image).__name__
    raise ValueError(f"This task gives the model {kind} input, which it cannot read. Choose a task of images and text.")


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text


def _rank_device(device: str) -> str:
    if device == "auto" and torch.cuda.is_available() and _world_size() > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return device


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))

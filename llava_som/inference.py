"""From images and a question to an answer: the single path behind the CLI, the demo and the evaluation.

>>> from llava_som import answer
>>> answer("photo.jpg", "What is tag 3?", model="llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from llava_som.attention import build_intervention
from llava_som.attention.base import Intervention, Sum
from llava_som.attention.session import Run
from llava_som.checkpoints import load_checkpoint, named_dtype
from llava_som.images import open_image, to_rgb
from llava_som.marks.record import MarkRecord

Message = dict[str, Any]
ImageSource = str | Path | Image.Image
InterventionSource = str | dict[str, Any] | list[Any] | Intervention


@dataclass
class Assistant:
    """A loaded model with its processor, ready to answer batches of conversations.

    `dataclasses.replace(assistant, intervention=...)` is the same model with another intervention.

    Attributes:
        model: a transformers model with `generate`.
        processor: its processor.
        intervention: on the model while it answers; given as `load_assistant` takes it, kept with what depends on the
            model filled in.
        run: what the intervention did in the last answer; None without one.

    Raises:
        ValueError: an intervention that does not exist or does not fit the model.
    """

    model: Any
    processor: ProcessorMixin
    intervention: InterventionSource | None = None
    run: Run | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        chosen = build_intervention(self.intervention)
        self.intervention = None if chosen is None else _fitted(chosen, self.model)

    @torch.inference_mode()
    def answer(self, conversations: Sequence[list[Message]], max_new_tokens: int = 512, **generation: Any) -> list[str]:
        """Answers to a batch of conversations, greedy unless `generation` says otherwise.

        Args:
            conversations: lists of chat messages that end with a user turn; an image part is
                `{"type": "image", "image": PIL image}`. Conversations without images may be in the same batch.
            max_new_tokens: at most so many tokens an answer.
            **generation: further options of `generate` (`do_sample`, `temperature`, `num_beams`, `stop_strings` ...).

        Returns:
            One text for each conversation, special tokens removed, white space stripped.
        """
        if not conversations:
            return []
        inputs = self.inputs(conversations)
        options = {"do_sample": False, "max_new_tokens": max_new_tokens, **generation}
        if "stop_strings" in options:
            options["tokenizer"] = self.processor.tokenizer
        with in_eval_mode(self.model), self.intervened() as self.run:
            generated = self.model.generate(**inputs, **options)
        new_tokens = generated[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(new_tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text.strip() for text in texts]

    def intervened(self) -> AbstractContextManager[Run | None]:
        """A block within which the intervention, if there is one, is on the model; `answer` enters it by itself."""
        chosen = build_intervention(self.intervention)
        return nullcontext() if chosen is None else chosen.on(self.model)

    def inputs(self, conversations: Sequence[list[Message]]) -> dict[str, Any]:
        """Left-padded model inputs: with padding on the right the model would continue after the padding."""
        render: Any = self.processor.apply_chat_template
        inputs = render(
            list(conversations),
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        ).to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        inputs.pop("token_type_ids", None)
        return inputs


def load_assistant(
    path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str = "auto",
    pruning: str | dict[str, Any] | None = None,
    intervention: InterventionSource | None = None,
) -> Assistant:
    """Load a checkpoint of ours, llava-hf's, LLaVA-1.5's or DocOwl's format; its config.json decides which.

    Args:
        path: folder or hub name.
        device: `cpu`, `cuda`, `cuda:1` ... or `auto` for the best there is.
        dtype: `float32`, `bfloat16` ...; `auto` is bfloat16 on a GPU and float32 on a CPU.
        attn_implementation: `sdpa`, `eager`, `flash_attention_2` ...; `auto` leaves the choice to transformers.
        pruning: drop vision tokens, on any checkpoint: a name, `{"type": name, **options}`, or "none" for nothing. By
            default what the checkpoint's config says.
        intervention: edit attention while it answers: a name, `{"type": name, **options}`, a list of these (one after
            the other), an `Intervention`, or "none".

    Raises:
        ValueError: a device this machine does not have, an unknown dtype, an intervention that does not exist or does
            not fit the model, or what `load_checkpoint` refuses.
    """
    chosen = build_intervention(intervention)  # a wrong name or option is said before gigabytes are read
    device, precision = placed(device, dtype)
    attention = None if attn_implementation == "auto" else attn_implementation
    model: Any
    model, processor = load_checkpoint(path, dtype=precision, attn_implementation=attention, pruning=pruning)
    return Assistant(model.to(device), processor, chosen)


@contextmanager
def in_eval_mode(model: Any) -> Iterator[None]:
    """Within, dropout and the like are off."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _fitted(intervention: Intervention, model: Any) -> Intervention:
    """The intervention with what depends on the model filled in, once for all answers."""
    with in_eval_mode(model), intervention.on(model) as run:
        parts = tuple(run.methods)
    return parts[0] if len(parts) == 1 else Sum(parts)


def placed(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """A device and a dtype with `auto` resolved; a wrong one is a ValueError before gigabytes are loaded."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={device}: cannot be used ({reason}). Use auto or cpu; llava-som doctor lists the GPUs."
        ) from None
    return device, named_dtype(dtype)


def answer(
    image: ImageSource | Sequence[ImageSource] | None,
    question: str,
    *,
    model: str | Path | Assistant,
    marks: MarkRecord | str | Path | None = None,
    intervention: InterventionSource | None = None,
    max_new_tokens: int = 512,
    **generation: Any,
) -> str:
    """Answer one question about an image, several images, or none.

    Args:
        image: file, PIL image, or a sequence of them; None for a question without an image.
        question: the user's text, without placeholders.
        model: a checkpoint path or name, or a loaded `Assistant` (faster for many questions).
        marks: draw these tags on the image first: a `MarkRecord` or a `.marks.json` sidecar. Needs exactly one image.
        intervention: edit attention, as in `load_assistant`; by default what a loaded assistant has.
        max_new_tokens: at most so many tokens.
        **generation: further options of `generate`.

    Raises:
        ImageError: an image that cannot be read.
        ValueError: `marks` with no image or several, or what `load_assistant` refuses.
    """
    sources = [] if image is None else [image] if isinstance(image, ImageSource) else list(image)
    images = [to_rgb(source) if isinstance(source, Image.Image) else open_image(source) for source in sources]
    if marks is not None:
        if len(images) != 1:
            raise ValueError(f"marks belong to one image, {len(images)} were given.")
        record = marks if isinstance(marks, MarkRecord) else MarkRecord.load(Path(marks))
        images = [record.redraw(images[0])]
    content = [*({"type": "image", "image": picture} for picture in images), {"type": "text", "text": question}]
    if not isinstance(model, Assistant):
        model = load_assistant(model, intervention=intervention)
    elif intervention is not None:
        model = replace(model, intervention=intervention)
    return model.answer([[{"role": "user", "content": content}]], max_new_tokens, **generation)[0]

"""The model a run starts from: a checkpoint, or a new one put together from parts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TrainingArguments
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from llava_som.assembly import assemble
from llava_som.checkpoints import load_checkpoint
from llava_som.registry import closest_match_message

if TYPE_CHECKING:
    from llava_som import LlavaSomForConditionalGeneration, LlavaSomProcessor
    from train.config import TrainConfig

BYTE_TOKENIZER = "bytes"


def starting_model(
    config: TrainConfig, arguments: TrainingArguments
) -> tuple[LlavaSomForConditionalGeneration, LlavaSomProcessor]:
    """The model and processor of a run.

    Weights are loaded in float32, because updates of a small learning rate vanish in bfloat16; only DeepSpeed, which
    keeps float32 copies of its own, is given bfloat16 when the run computes in it.

    Raises:
        ValueError: no such checkpoint, or an unknown key among the parts.
    """
    dtype = torch.bfloat16 if arguments.deepspeed and arguments.bf16 else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": config.attn_implementation}
    if isinstance(config.model, str):
        return load_checkpoint(config.model, pruning=config.pruning, **options)
    with _whole_models(arguments):
        model, processor = assemble(**_parts(config.model), **options)
    if config.pruning is not None:
        model.set_pruning(config.pruning)
    return model, processor


@contextmanager
def _whole_models(arguments: TrainingArguments) -> Iterator[None]:
    """Models built in here are not yet sharded by ZeRO-3: parts are joined first, and sharded when training starts."""
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if arguments.deepspeed:
            set_hf_deepspeed_config(arguments.hf_deepspeed_config)


def _parts(given: dict[str, Any]) -> dict[str, Any]:
    allowed = set(inspect.signature(assemble).parameters) - {"dtype", "attn_implementation"}
    for key in given:
        if key not in allowed:
            raise ValueError(closest_match_message("part of a new model", key, allowed))
    for key in ("vision", "decoder"):
        if key not in given:
            raise ValueError(
                f"model needs {key!r}: a checkpoint, or a config with model_type. Given: {', '.join(given)}."
            )
    return {**given, "tokenizer": byte_tokenizer()} if given.get("tokenizer") == BYTE_TOKENIZER else given


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the 256 bytes: nothing to download, no text it cannot write; some four times as many tokens."""
    special = ["<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({token: number for number, token in enumerate(special + alphabet)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=special[3:],
    )

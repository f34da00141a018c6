"""Weights into a model, all of them and nothing else: a key that is missing or left over is an error that lists it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llava_som.auto import LlavaSomForConditionalGeneration, LlavaSomProcessor

Loaded = tuple[LlavaSomForConditionalGeneration, LlavaSomProcessor]


def load_complete(model_class: type[PreTrainedModel], path: str | Path, options: dict[str, Any]) -> Any:
    """`from_pretrained`, where a key that is missing or left over is an error instead of a warning."""
    loader: Any = model_class.from_pretrained
    model, report = loader(path, output_loading_info=True, **options)
    _refuse_differences(report["missing_keys"], report["unexpected_keys"], str(path))
    return model.eval()


def load_exactly(model: PreTrainedModel, weights: dict[str, Tensor], origin: str, assign: bool = True) -> None:
    """Give the model exactly these weights, with `assign` the very tensors; a ValueError lists what differs."""
    expected = set(model.state_dict())
    _refuse_differences(expected - set(weights), set(weights) - expected, origin)
    model.load_state_dict(weights, assign=assign)
    if assign:
        model.tie_weights()


def adopt_buffers(module: torch.nn.Module, source: torch.nn.Module) -> None:
    """Take the computed buffers (position ids, rotary frequencies) that no state dict holds."""
    buffers = dict(source.named_buffers())
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:
            parent, _, leaf = name.rpartition(".")
            module.get_submodule(parent)._buffers[leaf] = buffers[name]


def _refuse_differences(missing: Iterable[str], unexpected: Iterable[str], origin: str) -> None:
    problems = [f"missing: {name}" for name in sorted(missing)] + [f"unexpected: {name}" for name in sorted(unexpected)]
    if problems:
        raise ValueError(f"{origin}: the weights do not fit the config.json.\n  " + "\n  ".join(problems))

"""Weights into a model, all of them and nothing else: a key that is missing or left over is an error that lists it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from llava_som.auto import LlavaSomForConditionalGeneration, LlavaSomProcessor

Loaded = tuple[LlavaSomForConditionalGeneration, LlavaSomProcessor]


def local_folder(path: str | Path) -> Path:
    """The folder itself, or the local copy of a hub repository."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(path), allow_patterns=["*.json", "*.model", "*.safetensors", "*.bin"]))


def read_weights(folder: Path, *optional: str) -> dict[str, Tensor]:
    """The weights in a folder's files, and in those of `optional` that it has.

    `.bin` files are read with torch's restricted unpickler.

    Raises:
        ValueError: no such file.
    """
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    files += [folder / name for name in optional if (folder / name).exists()]
    if not files:
        raise ValueError(f"{folder}: has neither *.safetensors nor pytorch_model*.bin files.")
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    return weights


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

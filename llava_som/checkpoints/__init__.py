"""Checkpoints in and out: ours, llava-hf's, the original LLaVA-1.5's and DocOwl's are read, ours and `llava` written.

What a folder holds is decided by its config.json, never by its name. A weight that is missing or left over is an
error that lists it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from llava_som.auto import LlavaSomForConditionalGeneration, LlavaSomProcessor
from llava_som.checkpoints.docowl import docowl_format, load_docowl
from llava_som.checkpoints.docowl_names import rename_docowl
from llava_som.checkpoints.llava_1_5 import load_llava_1_5
from llava_som.checkpoints.llava_hf import export_llava, load_llava_hf
from llava_som.checkpoints.weights import Loaded, load_complete
from llava_som.pruning import build_pruner, named_pruner
from llava_som.registry import closest_match_message

__all__ = ["checkpoint_format", "convert_checkpoint", "export_llava", "load_checkpoint", "named_dtype", "rename_docowl"]

DTYPES = ("float32", "bfloat16", "float16")


def checkpoint_format(config: dict[str, Any]) -> str:
    """`llava_som`, `llava_hf`, `llava_1.5`, `docowl_1.5` or `docowl_2`, from the content of a config.json.

    Raises:
        ValueError: none of them.
    """
    if config.get("model_type") == "llava_som":
        return "llava_som"
    if "mm_vision_tower" in config:
        return "llava_1.5"
    if config.get("model_type") == "llava" and "text_config" in config:
        return "llava_hf"
    if (docowl := docowl_format(config)) is not None:
        return docowl
    raise ValueError(
        f"config.json says model_type={config.get('model_type')!r}, which is none of: llava_som (ours), llava with a "
        "text_config (llava-hf), a config with mm_vision_tower (the original LLaVA-1.5), or mplug_docowl with a "
        "visual_config.visual_hreducer (DocOwl 1.5 and DocOwl2)."
    )


def named_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16`; another name is a ValueError with the closest."""
    if name not in DTYPES:
        raise ValueError(closest_match_message("dtype", name, DTYPES))
    return getattr(torch, name)


def load_checkpoint(
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str | None = None,
    vision_tower: str | Path | None = None,
    pruning: str | dict[str, Any] | None = None,
) -> Loaded:
    """Model (in eval mode) and processor from a folder or hub name, whichever of the formats above it has.

    Args:
        path: checkpoint folder or hub name.
        dtype: of the weights.
        attn_implementation: sdpa, eager, flash_attention_2 ...; transformers' default when absent.
        vision_tower: for the original LLaVA-1.5 format: where the vision encoder's config (and weights, if the
            checkpoint has none) are, instead of the `mm_vision_tower` of its config.
        pruning: what drops vision tokens, instead of what the config says: a name, `{"type": name, **options}`, or
            "none". It has no weights, so every checkpoint takes it.

    Raises:
        ValueError: another format, missing or unexpected weights (all are listed), or a pruner that does not fit.
    """
    build_pruner(named_pruner(pruning))  # a wrong name or option is said before gigabytes are read
    model, processor = _load(path, dtype, attn_implementation, vision_tower)
    if pruning is not None:
        model.set_pruning(pruning)
    return model, processor


def _load(
    path: str | Path, dtype: torch.dtype, attn_implementation: str | None, vision_tower: str | Path | None
) -> Loaded:
    config = _read_config(path)
    options: dict[str, Any] = {"dtype": dtype}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    match checkpoint_format(config):
        case "llava_som":
            if config["vision_config"].get("model_type") == "timm_tower":
                import llava_som.vision.timm  # noqa: F401  (registers the type)
            model = load_complete(LlavaSomForConditionalGeneration, path, options)
            return model, LlavaSomProcessor.from_pretrained(path)
        case "llava_hf":
            return load_llava_hf(path, options)
        case "docowl_1.5" | "docowl_2":
            return load_docowl(path, config, options)
        case _:
            return load_llava_1_5(path, config, options, vision_tower)


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str = "llava_som",
    dtype: str = "bfloat16",
    vision_tower: str | None = None,
) -> None:
    """Read a checkpoint of any known format and write it as `llava_som` or plain `llava`.

    Raises:
        ValueError: another target format or dtype, or whatever `load_checkpoint` and `export_llava` refuse.
    """
    if to not in ("llava_som", "llava"):
        raise ValueError(closest_match_message("checkpoint format", to, ["llava_som", "llava"]))
    model, processor = load_checkpoint(source, named_dtype(dtype), vision_tower=vision_tower)
    if to == "llava":
        export_llava(model, processor, target)
    else:
        model.save_pretrained(target)
        processor.save_pretrained(target)


def _read_config(path: str | Path) -> dict[str, Any]:
    """config.json of a folder or a hub repository as a dict."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: no config.json can be read there, so no checkpoint can be loaded ({error})"
        ) from error
    return config

"""A new model from its parts: vision encoder and decoder, pretrained or not, with a fresh projector and compressor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration, LlavaSomProcessor
from llava_som.modality import add_vision_twins
from llava_som.modeling import new_compressor, new_projector
from llava_som.registry import closest_match_message
from llava_som.vision.resize import resize_image
from llava_som.vocabulary import add_image_token, fit_embeddings


def assemble(
    vision: str | dict[str, Any],
    decoder: str | dict[str, Any],
    *,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    projector: str | dict[str, Any] = "mlp2x_gelu",
    compressor: str | dict[str, Any] = "none",
    pruning: str | dict[str, Any] | None = None,
    tiling: str | dict[str, Any] | None = None,
    modality_adaptive: bool = False,
    chat_template: str = "vicuna",
    vision_image_size: int | None = None,
    vision_feature_layer: int | list[int] | None = None,
    num_prefix_tokens: int | None = None,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str | None = None,
) -> tuple[LlavaSomForConditionalGeneration, LlavaSomProcessor]:
    """Model and processor from parts.

    Args:
        vision: a checkpoint ("openai/clip-vit-large-patch14-336"; "timm/focalnet_tiny_srf" for timm's weights), or
            a dict with `model_type` for a freshly initialised encoder (`{"model_type": "timm_tower",
            "architecture": ...}` for timm).
        decoder: a checkpoint ("lmsys/vicuna-7b-v1.5"), or a dict with `model_type` for a fresh decoder.
        tokenizer: a checkpoint, folder or tokenizer; default: the decoder's.
        projector: name, or `{"type": name, **options}`.
        compressor: the same.
        pruning: the same, or None.
        tiling: family of grids ("grid_9") or options of `llava_som.tiling.Tiling`; None: an image is one tile.
        modality_adaptive: image positions get keys, values and norms of their own, copies of the decoder's.
        chat_template: `vicuna`, `docowl`, `chatml`, `llama3` or a `.jinja` file with generation markers.
        vision_image_size: side of the images (or tiles) in pixels, where it is not the checkpoint's own; positions that
            CLIP and SigLIP have learned are resized.
        vision_feature_layer: see `LlavaSomConfig`.
        num_prefix_tokens: see `LlavaSomConfig`.
        dtype: of every weight.
        attn_implementation: sdpa, eager, flash_attention_2 ...; transformers' default when absent.

    Raises:
        ValueError: a fresh decoder without a tokenizer, a checkpoint that is not there, or parts that do not fit; the
            message says what to state.
    """
    with _naming("tokenizer", tokenizer or decoder):
        tokenizer = _tokenizer(tokenizer, decoder)
    image_token_id = add_image_token(tokenizer)
    with _naming("vision", vision):
        tower = _vision_tower(vision, dtype)
    if vision_image_size is not None:
        resize_image(tower, vision_image_size)
    with _naming("decoder", decoder):
        language_model = _decoder(decoder, dtype, vocab_size=len(tokenizer))
    fit_embeddings(language_model, len(tokenizer))
    config = LlavaSomConfig(
        vision_config=tower.config,
        text_config=language_model.config,
        projector=projector,
        compressor=compressor,
        pruning=pruning,
        tiling=tiling,
        modality_adaptive=modality_adaptive,
        image_token_id=image_token_id,
        vision_feature_layer=vision_feature_layer,
        num_prefix_tokens=num_prefix_tokens,
        dtype=dtype,
    )
    processor = LlavaSomProcessor.for_model(config, tokenizer, chat_template)
    model = _join(config, tower, language_model, dtype)
    if attn_implementation is not None:
        model.set_attn_implementation(attn_implementation)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


@contextmanager
def _naming(part: str, given: object) -> Iterator[None]:
    """Transformers' error for a checkpoint it cannot find does not always name it."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{part}={given}: cannot be loaded ({error})") from error


def _join(
    config: LlavaSomConfig, tower: PreTrainedModel, decoder: PreTrainedModel, dtype: torch.dtype
) -> LlavaSomForConditionalGeneration:
    """The parts in one model; only projector and compressor are allocated anew."""
    with torch.device("meta"):
        model = LlavaSomForConditionalGeneration(config)
    model.vision_tower, model.language_model = tower, decoder
    if config.modality_adaptive:
        model.vision_twins = add_vision_twins(decoder)
    for name, part in (("multi_modal_projector", new_projector(config)), ("compressor", new_compressor(config))):
        part.apply(model._init_weights)
        setattr(model, name, part.to(device=tower.device, dtype=dtype))
    return model


def _vision_tower(vision: str | dict[str, Any], dtype: torch.dtype) -> PreTrainedModel:
    if isinstance(vision, str) and vision.startswith("timm/"):
        from llava_som.vision.timm import TimmTower, TimmTowerConfig

        tower: Any = TimmTower(TimmTowerConfig.from_architecture(vision.removeprefix("timm/")), pretrained=True)
        return tower.to(dtype)
    if isinstance(vision, str):
        config = AutoConfig.from_pretrained(vision)
        config = getattr(config, "vision_config", config)  # a CLIP or SigLIP checkpoint holds a text encoder as well
        return AutoModel.from_pretrained(vision, config=config, dtype=dtype)
    options = dict(vision)
    model_type = options.pop("model_type", None)
    if model_type == "timm_tower":
        from llava_som.vision.timm import TimmTowerConfig

        return AutoModel.from_config(TimmTowerConfig.from_architecture(**options), dtype=dtype)
    return AutoModel.from_config(_fresh_config("vision", model_type, options), dtype=dtype)


def _decoder(decoder: str | dict[str, Any], dtype: torch.dtype, vocab_size: int) -> PreTrainedModel:
    if isinstance(decoder, str):
        return AutoModelForCausalLM.from_pretrained(decoder, dtype=dtype)
    options = {"vocab_size": vocab_size, **decoder}
    config = _fresh_config("decoder", options.pop("model_type", None), options)
    return AutoModelForCausalLM.from_config(config, dtype=dtype)


def _fresh_config(part: str, model_type: str | None, options: dict[str, Any]) -> PreTrainedConfig:
    if model_type is None:
        raise ValueError(f"{part}={options!r}: a fresh {part} needs model_type, such as clip_vision_model or llama.")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(closest_match_message(f"{part} model_type", model_type, CONFIG_MAPPING))
    return AutoConfig.for_model(model_type, **options)


def _tokenizer(
    given: str | Path | PreTrainedTokenizerBase | None, decoder: str | dict[str, Any]
) -> PreTrainedTokenizerBase:
    if isinstance(given, PreTrainedTokenizerBase):
        return given
    if given is None and isinstance(decoder, dict):
        raise ValueError("A fresh decoder brings no tokenizer: name one (tokenizer=folder or checkpoint).")
    return AutoTokenizer.from_pretrained(given or decoder)

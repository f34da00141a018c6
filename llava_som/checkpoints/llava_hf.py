"""llava-hf: transformers' own `llava` format. It is read through transformers, so every layout it knows is known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration, LlavaSomProcessor
from llava_som.checkpoints.weights import Loaded, adopt_buffers, load_complete, load_exactly


def load_llava_hf(path: str | Path, options: dict[str, Any]) -> Loaded:
    """Read a llava-hf checkpoint; its weights are moved into our model, not copied.

    Args:
        path: folder or hub name.
        options: `dtype` and perhaps `attn_implementation`.

    Raises:
        ValueError: missing or unexpected weights, or a feature selection that does not fit the vision encoder.
    """
    plain = load_complete(LlavaForConditionalGeneration, path, options)
    config = _our_config(plain.config, path, options["dtype"])
    with torch.device("meta"):
        model = LlavaSomForConditionalGeneration._from_config(config, **options)
    weights = dict(_our_names(plain.state_dict(), model.language_model.base_model_prefix))
    load_exactly(model, weights, origin=str(path))
    adopt_buffers(model.vision_tower, plain.model.vision_tower)
    adopt_buffers(model.language_model.get_decoder(), plain.model.language_model)
    model.generation_config = plain.generation_config
    processor = AutoProcessor.from_pretrained(path)
    processor.tokenizer.padding_side = "left"
    return model.eval(), LlavaSomProcessor(
        processor.image_processor, processor.tokenizer, config.image_seq_length, processor.chat_template
    )


def export_llava(model: LlavaSomForConditionalGeneration, processor: LlavaSomProcessor, folder: str | Path) -> None:
    """Write a plain `llava` checkpoint, which transformers loads without any code of ours.

    Raises:
        ValueError: the model has a part that plain `llava` cannot express; the part is named.
    """
    config = _their_config(model.config)
    with torch.device("meta"):
        plain = LlavaForConditionalGeneration(config)
    renamed = dict(_their_names(model.state_dict(), model.language_model.base_model_prefix))
    load_exactly(plain, renamed, origin="this model")
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    LlavaProcessor(
        processor.image_processor,
        processor.tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=model.config.num_prefix_tokens,
        chat_template=processor.chat_template,
    ).save_pretrained(folder)


def _our_config(theirs: Any, path: str | Path, dtype: torch.dtype) -> LlavaSomConfig:
    drops_first_token = theirs.vision_feature_select_strategy == "default"
    projector = {"activation": theirs.projector_hidden_act, "bias": theirs.multimodal_projector_bias}
    config = LlavaSomConfig(
        vision_config=theirs.vision_config,
        text_config=theirs.text_config,
        projector={"type": "mlp2x_gelu", **projector},
        image_token_id=theirs.image_token_id,
        vision_feature_layer=theirs.vision_feature_layer,
        keep_prefix_tokens=not drops_first_token,
        dtype=dtype,
    )
    if drops_first_token and config.num_prefix_tokens != 1:
        raise ValueError(
            f"{path}: vision_feature_select_strategy='default' drops the first token, but its vision encoder "
            f"({theirs.vision_config.model_type}) has {config.num_prefix_tokens} token(s) before the patches. "
            "With 'full' in its config.json it can be loaded."
        )
    return config


def _their_config(config: LlavaSomConfig) -> Any:
    """Our config as plain `llava`, or a ValueError that names what plain `llava` cannot express."""
    vision, text, projector = config.vision_config, config.text_config, config.projector
    obstacles = []
    if projector["type"] != "mlp2x_gelu":
        obstacles.append(f"projector {projector['type']!r} (plain llava has mlp2x_gelu)")
    if vision.model_type in ("timm_tower", "siglip2_vision_model"):
        obstacles.append(f"vision encoder {vision.model_type!r}")
    if config.num_prefix_tokens > 1 and not config.keep_prefix_tokens:
        obstacles.append(f"{config.num_prefix_tokens} dropped prefix tokens (plain llava drops exactly one or none)")
    for field in ("tiling", "pruning", "vision_final_norm", "modality_adaptive"):
        if getattr(config, field):
            obstacles.append(f"{field}={getattr(config, field)}")
    for field in ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier"):
        if getattr(text, field, None):
            obstacles.append(f"a decoder that scales its logits ({field}={getattr(text, field)})")
    if obstacles:
        raise ValueError("This model cannot be written as plain llava, because of: " + "; ".join(obstacles) + ".")
    keeps_all = config.keep_prefix_tokens or config.num_prefix_tokens == 0
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=config.image_token_id,
        image_seq_length=config.image_seq_length,
        projector_hidden_act=projector.get("activation", "gelu"),
        multimodal_projector_bias=projector.get("bias", True),
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy="full" if keeps_all else "default",
        dtype=config.dtype,
    )


def _our_names(state: dict[str, Tensor], decoder_prefix: str) -> Iterable[tuple[str, Tensor]]:
    for name, value in state.items():
        if name.startswith("model.language_model."):
            yield name.replace("model.language_model.", f"language_model.{decoder_prefix}.", 1), value
        elif name.startswith("lm_head."):
            yield f"language_model.{name}", value
        else:
            yield name.removeprefix("model."), value


def _their_names(state: dict[str, Tensor], decoder_prefix: str) -> Iterable[tuple[str, Tensor]]:
    for name, value in state.items():
        if name.startswith(f"language_model.{decoder_prefix}."):
            yield name.replace(f"language_model.{decoder_prefix}.", "model.language_model.", 1), value
        elif name.startswith("language_model.lm_head."):
            yield name.removeprefix("language_model."), value
        else:
            yield f"model.{name}", value

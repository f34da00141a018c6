"""The original LLaVA-1.5 format: a flat Llama config with `mm_` fields, `mm_projector` and `vision_tower` weights.

SoM-LLaVA is published in it as well as in llava-hf's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, LlamaConfig, PreTrainedTokenizerBase

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration, LlavaSomProcessor
from llava_som.checkpoints.weights import Loaded, load_exactly, local_folder, read_weights
from llava_som.vocabulary import add_image_token, fit_embeddings

# Fields that say how the checkpoint was written, not what its decoder is.
_NOT_THE_DECODERS = ("model_type", "architectures", "transformers_version", "torch_dtype", "dtype")


def load_llava_1_5(
    path: str | Path, config: dict[str, Any], options: dict[str, Any], vision_tower: str | Path | None
) -> Loaded:
    """Read the original format.

    Args:
        path: folder or hub name.
        config: its config.json.
        options: `dtype` and perhaps `attn_implementation`.
        vision_tower: where the vision encoder is, instead of the config's `mm_vision_tower`.

    Raises:
        ValueError: a relative of LLaVA-1.5 that is not one, or missing or unexpected weights.
    """
    _refuse_other_llavas(path, config)
    folder = local_folder(path)
    tower = _vision_tower_name(folder, config["mm_vision_tower"], vision_tower)
    model = LlavaSomForConditionalGeneration._from_config(_our_config(config, tower, options["dtype"]), **options)
    weights = dict(_our_names(read_weights(folder, "mm_projector.bin"), config.get("mm_projector_type", "linear")))
    if not any(name.startswith("vision_tower.") for name in weights):  # frozen in training, so often not saved
        pretrained = AutoModel.from_pretrained(tower, config=model.config.vision_config, dtype=options["dtype"])
        weights |= {f"vision_tower.{name}": value for name, value in pretrained.state_dict().items()}
    load_exactly(model, weights, origin=str(path), assign=False)
    return model.eval(), _processor(model, AutoTokenizer.from_pretrained(folder), config)


def _our_config(config: dict[str, Any], tower: str, dtype: torch.dtype) -> LlavaSomConfig:
    vision = AutoConfig.from_pretrained(tower)
    text = {key: value for key, value in config.items() if not key.startswith("mm_") and key not in _NOT_THE_DECODERS}
    return LlavaSomConfig(
        vision_config=getattr(vision, "vision_config", vision),
        text_config=LlamaConfig(**text),
        projector=config.get("mm_projector_type", "linear"),
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        keep_prefix_tokens=config.get("mm_vision_select_feature", "patch") == "cls_patch",
        dtype=dtype,
    )


def _processor(
    model: LlavaSomForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, config: dict[str, Any]
) -> LlavaSomProcessor:
    """The processor, after the model and its tokenizer have been given a token for the image placeholder."""
    model.config.image_token_id = add_image_token(tokenizer)
    fit_embeddings(model.language_model, len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    processor = LlavaSomProcessor.for_model(model.config, tokenizer, chat_template="vicuna")
    if config.get("image_aspect_ratio") != "pad":  # before LLaVA-1.5: CLIP's own resize and centre crop
        side = model.config.vision_config.image_size
        processor.image_processor.do_pad, processor.image_processor.do_center_crop = False, True
        processor.image_processor.size = {"shortest_edge": side}
        processor.image_processor.crop_size = {"height": side, "width": side}
    return processor


def _refuse_other_llavas(path: str | Path, config: dict[str, Any]) -> None:
    """A ValueError for relatives of LLaVA-1.5 that would load and answer wrongly."""
    obstacles = []
    if config.get("model_type") not in ("llava", "llava_llama"):
        obstacles.append(f"model_type={config.get('model_type')!r} (its decoder is not Llama)")
    if config.get("mm_use_im_start_end"):
        obstacles.append("mm_use_im_start_end=true (tokens around each image)")
    if str(config.get("image_aspect_ratio")).startswith("anyres"):
        obstacles.append(f"image_aspect_ratio={config['image_aspect_ratio']!r} (tiles, LLaVA-1.6)")
    if obstacles:
        raise ValueError(f"{path}: is not LLaVA-1.5, because of: {'; '.join(obstacles)}. Is there a llava-hf version?")


def _vision_tower_name(path: Path, named: str, override: str | Path | None) -> str:
    if override is not None:
        return str(override)
    beside = path / named
    return str(beside) if beside.is_dir() else named


def _our_names(state: dict[str, Tensor], projector: str) -> Iterable[tuple[str, Tensor]]:
    layers = {"0": "linear_1", "2": "linear_2"} if projector == "mlp2x_gelu" else {}
    for name, value in state.items():
        if name.endswith("rotary_emb.inv_freq") or name.endswith("embeddings.position_ids"):
            continue  # computed, not learned; old exports hold them
        if "mm_projector." in name:
            rest = name.rpartition("mm_projector.")[2]
            first, _, leaf = rest.partition(".")
            yield f"multi_modal_projector.{layers.get(first, 'linear')}.{leaf or first}", value
        elif "vision_tower." in name:
            yield "vision_tower." + name.rpartition("vision_tower.")[2].removeprefix("vision_model."), value
        else:
            yield f"language_model.{name}", value

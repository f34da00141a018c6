"""Tiny random models of every family that interventions have to work on, and prompts with images for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

from llava_som.assembly import assemble
from tests.tiny import VISION as TINY_VISION
from tests.tiny import tiny_tokenizer

IMAGE = 90  # id of the placeholder of an image feature
PAD = 0
_TEXT = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": PAD, "bos_token_id": 1,
         "eos_token_id": 2}  # fmt: skip
_LLAMA = {key: value for key, value in _TEXT.items() if key != "vocab_size"} | {"model_type": "llama"}
_MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
_OPT = {"vocab_size": 96, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
        "word_embed_proj_dim": 32, "max_position_embeddings": 512, "pad_token_id": PAD, "dropout": 0.0}  # fmt: skip
TEXT: dict[str, dict[str, Any]] = {
    "llama": _TEXT,
    "mistral": _TEXT | {"sliding_window": 12},
    "mixtral": _TEXT | _MOE,
    "qwen2": _TEXT,
    "qwen3": _TEXT | {"head_dim": 8},
    "gemma2": _TEXT | {"head_dim": 8, "sliding_window": 12, "query_pre_attn_scalar": 8},
    "gemma3_text": _TEXT | {"head_dim": 8, "sliding_window": 12, "query_pre_attn_scalar": 8},
    "phi3": _TEXT,
    "gpt_oss": _TEXT | _MOE | {"head_dim": 8, "sliding_window": 12},
    "opt": _OPT,
    "smollm3": _TEXT,
}
_CLIP = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
_SIGLIP = _CLIP | {"model_type": "siglip_vision_model"}
_QWEN_VISION = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4, "mlp_ratio": 2,
                "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip
_QWEN2_5_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 4,
                   "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, "window_size": 16,
                   "fullatt_block_indexes": [1]}  # fmt: skip
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
_INTERN = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
           "image_size": [32, 32], "patch_size": [8, 8]}  # fmt: skip
_GRID = {"image_grid_pinpoints": [[32, 64], [64, 32]]}
VISION: dict[str, tuple[str, dict[str, Any]]] = {
    "llava": ("llava", {"text_config": _LLAMA, "vision_config": _CLIP}),
    "llava_qwen2": ("llava", {"text_config": _TEXT | {"model_type": "qwen2"}, "vision_config": _SIGLIP,
                              "vision_feature_select_strategy": "full"}),
    "vipllava": ("vipllava", {"text_config": _LLAMA, "vision_config": _CLIP,
                              "vision_feature_layers": [-1, -2]}),
    "llava_next": ("llava_next", {"text_config": _TEXT | {"model_type": "mistral", "sliding_window": None},
                                  "vision_config": _CLIP, **_GRID}),
    "llava_onevision": ("llava_onevision", {"text_config": _TEXT | {"model_type": "qwen2"}, "vision_config": _SIGLIP,
                                            "vision_feature_select_strategy": "full", **_GRID}),
    "qwen2_vl": ("qwen2_vl", {"text_config": _TEXT | _ROPE, "vision_config": _QWEN_VISION}),
    "qwen2_5_vl": ("qwen2_5_vl", {"text_config": _TEXT | _ROPE, "vision_config": _QWEN2_5_VISION}),
    "internvl": ("internvl", {"text_config": _TEXT | {"model_type": "qwen2"}, "vision_config": _INTERN}),
}  # fmt: skip
NAMES = [*TEXT, *VISION, "ours"]


def tiny(name: str, seed: int = 0) -> Any:
    """A random model whose heads differ: queries and keys are scaled, so that attention is far from even."""
    torch.manual_seed(seed)
    if name == "ours":
        model: Any = assemble(TINY_VISION["clip"], _LLAMA, tokenizer=tiny_tokenizer())[0]
    elif name in TEXT:
        config = AutoConfig.for_model(name, **TEXT[name])
        config.image_token_id = IMAGE  # text alone: some of it passes for an image
        model = AutoModelForCausalLM.from_config(config)
    else:
        model_type, options = VISION[name]
        model = AutoModelForImageTextToText.from_config(_with_image_token(AutoConfig.for_model(model_type, **options)))
    with torch.no_grad():
        for part, weight in model.get_decoder().named_parameters():
            if any(projection in part for projection in ("q_proj.weight", "k_proj.weight", "qkv_proj.weight")):
                weight.mul_(12)
    return model.eval()


def _with_image_token(config: PreTrainedConfig) -> PreTrainedConfig:
    config.image_token_id = IMAGE  # type: ignore[attr-defined]
    for name in ("video_token_id", "vision_start_token_id", "vision_end_token_id"):
        if hasattr(config, name):
            setattr(config, name, IMAGE + 1 + len(name) % 5)
    return config


def _pixels(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def _qwen_images(count: int) -> dict[str, Tensor]:
    grid = torch.tensor([[1, 4, 4 + 2 * (number % 2)] for number in range(count)])  # 4 and 6 features
    return {"pixel_values": _pixels(int(grid.prod(dim=1).sum()), 3 * 2 * 4 * 4), "image_grid_thw": grid}


def _sized_images(count: int) -> dict[str, Tensor]:
    return {
        "pixel_values": _pixels(count, 3, 3, 32, 32),
        "image_sizes": torch.tensor([[32, 60 - number] for number in range(count)]),
    }


_IMAGES: dict[str, Callable[[int], dict[str, Tensor]]] = {
    "qwen2_vl": _qwen_images,
    "qwen2_5_vl": _qwen_images,
    "llava_next": _sized_images,
    "llava_onevision": _sized_images,
}


def prompts(name: str, model: Any, after: tuple[int, ...] = (7,)) -> dict[str, Tensor]:
    """Inputs of a model, left-padded: a few tokens, an image and `after[i]` tokens more, in row i."""
    image_id = getattr(model.config, "image_token_id", IMAGE)
    images = (
        {} if name in TEXT else _IMAGES.get(name, lambda count: {"pixel_values": _pixels(count, 3, 32, 32)})(len(after))
    )
    counts = [9] * len(after)
    if images:
        with torch.no_grad():
            counts = [len(features) for features in model.get_image_features(**images).pooler_output]
    rows = []
    for number, (length, count) in enumerate(zip(after, counts, strict=True)):
        words = torch.randint(3, 88, (4 + number + length,), generator=torch.Generator().manual_seed(number))
        rows.append(torch.cat([words[: 4 + number], torch.full((count,), image_id), words[4 + number :]]))
    longest = max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=PAD) for row in rows])
    mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask, **images}
    if name.startswith("qwen2") and images:
        inputs["mm_token_type_ids"] = (ids == image_id).int()
    return inputs


def one_of(inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One prompt of a batch with an image each, without its padding."""
    kept = inputs["attention_mask"][row].bool()
    taken = {}
    for key, value in inputs.items():
        if key in ("input_ids", "attention_mask", "mm_token_type_ids"):
            taken[key] = value[row : row + 1, kept]
        elif key == "pixel_values" and "image_grid_thw" in inputs:
            sizes = inputs["image_grid_thw"].prod(dim=1).tolist()
            taken[key] = value.split(sizes)[row]
        else:
            taken[key] = value[row : row + 1]
    return taken

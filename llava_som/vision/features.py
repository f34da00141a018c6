"""Pixels to token features, the same call for every vision encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llava_som.vision.grid import TokenGrid

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def encode_images(
    tower: PreTrainedModel,
    pixel_values: Tensor,
    layers: int | list[int],
    grid: TokenGrid,
    keep_prefix: bool = False,
    final_norm: bool = False,
) -> Tensor:
    """Hidden states of one or several layers of a vision encoder, prefix tokens removed.

    Args:
        tower: any transformers vision model, or our `TimmTower`.
        pixel_values: `[N, 3, S, S]`.
        layers: index into the encoder's hidden states (-2 is LLaVA-1.5's); several are concatenated along the width.
        grid: what the encoder is expected to return.
        keep_prefix: keep class and register tokens (LLaVA's "full" selection).
        final_norm: apply the encoder's own last norm, which CLIP gives to its class token only.

    Returns:
        `[N, rows * cols, D]`, or `[N, prefix + rows * cols, D]` with `keep_prefix`.

    Raises:
        ValueError: the encoder returned another number of tokens than `grid` says, or has no last norm.
    """
    hidden_states = tower(**_tower_inputs(tower, pixel_values), output_hidden_states=True).hidden_states
    chosen = [hidden_states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    if final_norm:
        chosen = [_last_norm(tower)(features) for features in chosen]
    features = chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)
    expected = grid.num_prefix_tokens + grid.num_patches
    if features.shape[1] != expected:
        raise ValueError(
            f"The vision encoder ({tower.config.model_type}) returned {features.shape[1]} tokens for an image of "
            f"{tuple(pixel_values.shape[-2:])} pixels; its config says {grid.num_prefix_tokens} prefix + {grid.rows} x "
            f"{grid.cols} patches = {expected}. Check image_size and num_prefix_tokens."
        )
    return features if keep_prefix else features[:, grid.num_prefix_tokens :]


def _last_norm(tower: Any) -> Any:
    norm = getattr(tower, "post_layernorm", None) or getattr(tower, "layernorm", None)
    if norm is None:
        raise ValueError(f"vision_final_norm: the encoder {tower.config.model_type!r} has no last norm of its own.")
    return norm


def _tower_inputs(tower: PreTrainedModel, pixel_values: Tensor) -> dict[str, Tensor]:
    pixel_values = pixel_values.to(device=tower.device, dtype=tower.dtype)
    if tower.config.model_type == "siglip2_vision_model":  # NaFlex takes flattened patches instead of an image
        return _naflex_inputs(pixel_values, tower.config.patch_size)
    return {"pixel_values": pixel_values}


def _naflex_inputs(pixel_values: Tensor, patch: int) -> dict[str, Tensor]:
    """`[N, 3, S, S]` to patches `[N, T, patch * patch * 3]` in row-major order, all of them valid."""
    count, channels, height, width = pixel_values.shape
    rows, cols = height // patch, width // patch
    patches = pixel_values.reshape(count, channels, rows, patch, cols, patch).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.reshape(count, rows * cols, patch * patch * channels),
        "pixel_attention_mask": torch.ones(count, rows * cols, dtype=torch.int32, device=pixel_values.device),
        "spatial_shapes": torch.tensor([[rows, cols]] * count, device=pixel_values.device),
    }

"""How many tokens a vision encoder gives, and in what grid: one answer for config, processor and model.

An encoder states how many of its output tokens are no patches (class token, registers). It is never assumed:
dropping the first token of SigLIP, which has no class token, loses a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_PREFIX_TOKENS: dict[str, Callable[[PreTrainedConfig], int]] = {
    "aimv2_vision_model": lambda config: 0,
    "clip_vision_model": lambda config: 1,
    "deit": lambda config: 2,
    "dinov2": lambda config: 1,
    "dinov2_with_registers": lambda config: 1 + config.num_register_tokens,
    "dinov3_vit": lambda config: 1 + config.num_register_tokens,
    "ijepa": lambda config: 0,
    "siglip_vision_model": lambda config: 0,
    "siglip2_vision_model": lambda config: 0,
    "timm_tower": lambda config: 0,
    "vit": lambda config: 1,
    "vit_mae": lambda config: 1,
}


@dataclass(frozen=True)
class TokenGrid:
    """What an encoder gives for one image: `num_prefix_tokens`, then `rows * cols` patch tokens, row by row."""

    rows: int
    cols: int
    num_prefix_tokens: int

    @property
    def num_patches(self) -> int:
        """Patch tokens, without the prefix."""
        return self.rows * self.cols


def token_grid(vision_config: PreTrainedConfig, num_prefix_tokens: int | None = None) -> TokenGrid:
    """The token grid of an encoder at the image size of its config.

    Args:
        vision_config: a transformers vision config (`image_size`, `patch_size`), a NaFlex SigLIP2 config
            (`num_patches`), or ours for timm.
        num_prefix_tokens: states the number for an encoder this module does not list.

    Raises:
        ValueError: an encoder whose grid or prefix is not known; the message says which field of LlavaSomConfig
            states it.
    """
    if num_prefix_tokens is None:
        count = _PREFIX_TOKENS.get(vision_config.model_type)
        if count is None:
            raise ValueError(
                f"Vision encoder {vision_config.model_type!r}: the number of tokens before the patches is not known. "
                f"State it as LlavaSomConfig(num_prefix_tokens=...). Known: {', '.join(sorted(_PREFIX_TOKENS))}."
            )
        num_prefix_tokens = count(vision_config)
    if vision_config.model_type == "siglip2_vision_model":
        side = round(vision_config.num_patches**0.5)
        return TokenGrid(side, side, num_prefix_tokens)
    patch_size = getattr(vision_config, "patch_size", None)
    image_size = getattr(vision_config, "image_size", None)
    if not isinstance(patch_size, int) or not isinstance(image_size, int):
        raise ValueError(
            f"Vision encoder {vision_config.model_type!r} has patch_size={patch_size!r} and image_size={image_size!r}; "
            "one number each is needed. Convolutional and hierarchical encoders work as a timm tower (TimmTowerConfig)."
        )
    return TokenGrid(image_size // patch_size, image_size // patch_size, num_prefix_tokens)


def input_size(vision_config: PreTrainedConfig) -> int:
    """Side in pixels of the square image an encoder takes."""
    if vision_config.model_type == "siglip2_vision_model":
        return round(vision_config.num_patches**0.5) * vision_config.patch_size
    return vision_config.image_size

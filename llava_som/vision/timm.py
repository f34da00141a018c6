"""Any timm model as a vision tower: focalnet, davit, mambaout, halonet, volo, ecaresnet, convnext, ViTs.

Families differ in what they return (NCHW, NHWC, tokens with or without a class token). `forward_intermediates`
gives NCHW maps for all of them, so a tower is an architecture name and the stride at which its feature map is read;
later stages are removed.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from llava_som.registry import closest_match_message


class TimmTowerConfig(PreTrainedConfig):
    """Which timm model, at which image size, read at which stride. Build it with `from_architecture`."""

    model_type = "timm_tower"

    architecture: str = "convnext_atto"
    image_size: int = 224
    patch_size: int = 16
    hidden_size: int = 160
    feature_index: int = 2
    image_mean: list[float] | tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: list[float] | tuple[float, ...] = (0.229, 0.224, 0.225)

    @classmethod
    def from_architecture(cls, architecture: str, image_size: int | None = None, stride: int = 16) -> TimmTowerConfig:
        """The config of a timm architecture, its widths and normalisation read from timm.

        Args:
            architecture: timm model name ("focalnet_tiny_srf").
            image_size: side in pixels; timm's own default when absent.
            stride: pixels per token; must be one of the model's feature strides.

        Raises:
            ValueError: an unknown architecture, or a stride the model does not have.
        """
        if not timm.is_model(architecture.split(".")[0]):
            raise ValueError(closest_match_message("timm architecture", architecture, timm.list_models()))
        with torch.device("meta"):
            model = timm.create_model(architecture, pretrained=False)
        stages = [(stage["num_chs"], stage["reduction"]) for stage in _feature_stages(model)]
        if stride not in (strides := [reduction for _, reduction in stages]):
            raise ValueError(f"{architecture} has no feature map at stride {stride}. It has {sorted(set(strides))}.")
        index = max(position for position, reduction in enumerate(strides) if reduction == stride)
        data = resolve_model_data_config(model)
        return cls(
            architecture=architecture,
            image_size=image_size or data["input_size"][-1],
            patch_size=stride,
            hidden_size=stages[index][0],
            feature_index=index,
            image_mean=list(data["mean"]),
            image_std=list(data["std"]),
        )


class TimmTower(PreTrainedModel):
    """A timm model cut after the stage that is read; returns its map as tokens `[N, rows * cols, D]`."""

    config: TimmTowerConfig
    config_class = TimmTowerConfig
    main_input_name = "pixel_values"
    input_modalities = ["image"]  # noqa: RUF012
    timm_model: Any

    def __init__(self, config: TimmTowerConfig, pretrained: bool = False) -> None:
        super().__init__(config)
        self.timm_model = timm.create_model(config.architecture, pretrained=pretrained, **_size_argument(config))
        kept = self.timm_model.prune_intermediate_layers([config.feature_index], prune_norm=False, prune_head=True)
        self._map_index = kept[0]
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Timm initialises its own modules; buffers that are in no checkpoint are computed again after loading."""
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Feature map of the chosen stage as tokens.

        Args:
            pixel_values: `[N, 3, S, S]`, normalised with the config's mean and std.
            **kwargs: accepted for the interface of transformers' towers; there is one hidden state and it is always
                returned.
        """
        (map_NCHW,) = self.timm_model.forward_intermediates(
            pixel_values, indices=[self._map_index], output_fmt="NCHW", intermediates_only=True
        )
        tokens_NTC = map_NCHW.flatten(2).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=tokens_NTC, hidden_states=(tokens_NTC,))


def _feature_stages(model: Any) -> list[dict[str, Any]]:
    stages = model.feature_info
    return stages if isinstance(stages, list) else stages.info


def _size_argument(config: TimmTowerConfig) -> dict[str, Any]:
    """Vision transformers size their position embedding when they are built; convolutional models take no size."""
    with torch.device("meta"):
        model = timm.create_model(config.architecture, pretrained=False)
    fixed = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return {"img_size": config.image_size} if fixed and fixed[0] != config.image_size else {}


AutoConfig.register(TimmTowerConfig.model_type, TimmTowerConfig, exist_ok=True)
AutoModel.register(TimmTowerConfig, TimmTower, exist_ok=True)

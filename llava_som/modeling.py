"""The model: vision encoder -> projector -> one scatter into the embeddings of any causal decoder.

The decoder is the whole `AutoModelForCausalLM`, not its base with a head of ours: logit scaling, soft caps, router
losses and special caches stay the decoder's own business, and nothing of a decoder is written here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_outputs import CausalLMOutputWithPast

from llava_som.configuration import LlavaSomConfig
from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import Projector
from llava_som.vision.features import encode_images
from llava_som.vision.grid import input_size


class LlavaSomForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """A vision encoder and a projector in front of any causal decoder."""

    config: LlavaSomConfig
    config_class = LlavaSomConfig
    vision_tower: PreTrainedModel
    multi_modal_projector: Projector
    language_model: Any

    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: LlavaSomConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        options = dict(config.projector)
        projector = PROJECTORS.get(options.pop("type"))
        self.multi_modal_projector = projector(config.vision_width, config.text_config.hidden_size, **options)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the decoder's token embedding."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The decoder's language modelling head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the decoder's language modelling head."""
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        """The decoder without its head."""
        return self.language_model.get_decoder()

    def _supports_default_dynamic_cache(self) -> bool:  # type: ignore[override]
        """Asked of the decoder: a linear-attention one such as MiniMax brings a cache of its own."""
        return self.language_model._supports_default_dynamic_cache()

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Decoder-width tokens of images: `[N, 3, S, S]` to `[N, image_seq_length, D_text]`."""
        config = self.config
        features = encode_images(
            self.vision_tower, pixel_values, config.vision_feature_layer, config.token_grid, config.keep_prefix_tokens
        )
        return self.multi_modal_projector(features)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss over `labels` when they are given.

        Args:
            input_ids: `[B, L]`; each image is `image_seq_length` copies of `config.image_token_id`.
            pixel_values: `[N, 3, S, S]`, the images of the whole batch in the order of their placeholders; None
                without images.
            attention_mask: `[B, L]`, left or right padded.
            position_ids: `[B, L]`.
            past_key_values: the decoder's cache.
            inputs_embeds: `[B, L, D_text]` instead of `input_ids`, images already in place.
            labels: `[B, L]`, -100 where nothing is learned.
            logits_to_keep: compute only the last so many logits.
            **kwargs: passed to the decoder.

        Raises:
            ValueError: placeholders and image features differ in number (both are named), or inputs are missing.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("Give input_ids or inputs_embeds.")
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if pixel_values is not None:
                inputs_embeds = self._insert_images(input_ids, inputs_embeds, self.get_image_features(pixel_values))
            elif self._must_touch_vision(past_key_values):
                inputs_embeds = inputs_embeds + self._zero_from_vision()
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _insert_images(self, input_ids: Tensor, inputs_embeds: Tensor, features: Tensor) -> Tensor:
        is_image = input_ids == self.config.image_token_id
        _check_image_tokens(int(is_image.sum()), *features.shape[:2])
        return inputs_embeds.masked_scatter(is_image.unsqueeze(-1), features.to(inputs_embeds))

    def _must_touch_vision(self, past_key_values: Cache | None) -> bool:
        """Whether a batch without images still has to run the vision path.

        In training and under ZeRO-3 every rank must run the same modules, or a rank with text only leaves the
        others waiting. A decoding step has no image on any rank.
        """
        if self.training:
            return torch.is_grad_enabled()
        return is_deepspeed_zero3_enabled() and (past_key_values is None or past_key_values.get_seq_length() == 0)

    def _zero_from_vision(self) -> Tensor:
        """A zero that depends on the vision path, so that its parameters are gathered and get zero gradients."""
        side = input_size(self.config.vision_config)
        blank = torch.zeros(1, 3, side, side, device=self.device, dtype=self.dtype)
        return self.get_image_features(blank).mean() * 0.0  # a sum could overflow in float16, and inf * 0 is nan

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Repeat each row for its beams or samples, and with it all its images.

        Transformers repeats image by image: the beams of a row with two images would see one of them twice.
        """
        pixel_values = kwargs.pop("pixel_values", None)
        expand = super()._expand_inputs_for_generation  # type: ignore[misc]
        ids, kwargs = expand(expand_size, is_encoder_decoder, input_ids, **kwargs)
        if pixel_values is not None and expand_size > 1:
            tokens = (input_ids == self.config.image_token_id).sum(dim=1)
            _check_image_tokens(int(tokens.sum()), len(pixel_values), self.config.image_seq_length)
            rows = pixel_values.split((tokens // self.config.image_seq_length).tolist())
            pixel_values = torch.cat([images.repeat(expand_size, 1, 1, 1) for images in rows])
        return ids, {**kwargs, "pixel_values": pixel_values}

    def _init_weights(self, module: nn.Module) -> None:
        """Projector layers, with the decoder's own spread; the encoder and the decoder initialise themselves.

        Biases start at zero. PyTorch's random ones shift all image tokens by about as much as tells them apart: with
        them the demo's model, trained from scratch, still guessed after 1,000 steps; without, it knew shapes by 250.
        """
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=getattr(self.config.text_config, "initializer_range", 0.02))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _check_image_tokens(placeholders: int, images: int, features_each: int) -> None:
    if placeholders != images * features_each:
        raise ValueError(
            f"The text has {placeholders} image tokens, the {images} image(s) give {images * features_each} features "
            f"({features_each} each). Was the text truncated, or made by another model's processor?"
        )

"""The model: vision encoder -> pruning -> projector -> compressor -> one scatter into any causal decoder's embeddings.

The decoder is the whole `AutoModelForCausalLM`, not its base with a head of ours: logit scaling, soft caps, router
losses and special caches stay the decoder's own business, and nothing of a decoder is written here.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import Compressor
from llava_som.configuration import LlavaSomConfig
from llava_som.generation import ImageGenerationMixin
from llava_som.modality import add_vision_twins
from llava_som.page_encoder import encode_pages
from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import Projector
from llava_som.pruning import build_pruner
from llava_som.pruning.base import TilePruner
from llava_som.pruning.in_decoder import DecoderPruner, call_with_drops
from llava_som.pruning.sequence import EncodedPrompt
from llava_som.vision.grid import input_size


class LlavaSomForConditionalGeneration(PreTrainedModel, ImageGenerationMixin):
    """A vision encoder, a projector and a compressor in front of any causal decoder."""

    config: LlavaSomConfig
    config_class = LlavaSomConfig
    vision_tower: PreTrainedModel
    multi_modal_projector: Projector
    compressor: Compressor
    language_model: Any
    vision_twins: nn.ModuleList | None

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
        self.multi_modal_projector = new_projector(config)
        self.compressor = new_compressor(config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.vision_twins = add_vision_twins(self.language_model) if config.modality_adaptive else None
        self.pruner = build_pruner(config.pruning)
        self.post_init()

    def set_pruning(self, pruning: str | dict[str, Any] | None) -> None:
        """Drop vision tokens from now on as `pruning` says, or none; it is saved with the config.

        Args:
            pruning: a pruner's name, `{"type": name, **options}`, or None ("none").

        Raises:
            ValueError: an unknown name or option, or a placement that the model's parts do not allow.
        """
        self.config.set_pruning(pruning)
        self.pruner = build_pruner(self.config.pruning)

    def make_modality_adaptive(self) -> None:
        """Give image positions keys, values and norms of their own: copies of the decoder's, which then can learn.

        Raises:
            ValueError: the decoder's layers lack one of these modules.
        """
        if self.vision_twins is None:
            self.vision_twins = add_vision_twins(self.language_model)
            self.config.modality_adaptive = True

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

    def get_image_features(self, pixel_values: Tensor, image_grids: Tensor | None = None) -> BaseModelOutputWithPooling:
        """Decoder-width tokens of images; pruning has dropped what it drops.

        Args:
            pixel_values: `[N, 3, S, S]`, image by image, an image's global tile first.
            image_grids: rows and columns of the crops of each image, `[P, 2]`; None: each image is one tile.

        Returns:
            `pooler_output`, as in transformers: a list of `[T, D_text]`, one for each image.
        """
        pages, count = self.config.pages_of(len(pixel_values), image_grids), self.config.token_count
        tokens = encode_pages(self, pixel_values, pages)
        lengths = [sum(count.span_lengths(page)) for page in pages]
        if tokens.keep is not None:
            lengths = [int(kept.sum()) for kept in tokens.keep.split(lengths)]
        return BaseModelOutputWithPooling(pooler_output=list(tokens.features.split(lengths)))  # type: ignore[arg-type]

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        image_features: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss over `labels` when they are given.

        With pruning the decoder sees a shorter prompt: dropped placeholders are taken out of ids, mask, positions and
        labels alike, and the logits are those of what is left.

        Args:
            input_ids: `[B, L]`; each image is as many copies of `config.image_token_id` as it has tokens before
                pruning (`config.token_count`).
            pixel_values: `[N, 3, S, S]`, the tiles of all images of the batch in the order of their placeholders; None
                without images.
            image_grids: rows and columns of the crops of each image, `[P, 2]`; None where images are not tiled.
            attention_mask: `[B, L]`, left or right padded.
            position_ids: `[B, L]`. Without `attention_mask`, rows in which they start again are packed with several
                samples.
            past_key_values: the decoder's cache.
            inputs_embeds: `[B, L, D_text]` instead of `input_ids`, images already in place.
            image_features: `[S, D_text]` instead of `pixel_values`: one vector for each placeholder in `input_ids`.
            labels: `[B, L]`, -100 where nothing is learned.
            logits_to_keep: compute only the last so many logits.
            **kwargs: passed to the decoder. With `inputs_embeds`, a modality adaptive decoder needs `is_vision`, bool
                `[B, L]`.

        Raises:
            ValueError: placeholders and image features differ in number (both are named), images that leave the
                decoder's context, or inputs that are missing or do not go together.
        """
        if inputs_embeds is not None and (pixel_values is not None or image_features is not None):
            raise ValueError(
                "Images go with input_ids, whose placeholders say where; in inputs_embeds they are in place already. "
                "Give input_ids, or leave pixel_values out."
            )
        if self.pruner is not None and isinstance(logits_to_keep, Tensor):
            raise ValueError("logits_to_keep: pruning moves positions, so give a number (of last ones), not positions.")
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("Give input_ids or inputs_embeds.")
            if pixel_values is not None:
                prompt = self.encode_prompt(input_ids, pixel_values, image_grids, attention_mask, position_ids)
                input_ids, image_features = prompt.input_ids, prompt.image_features
                attention_mask, position_ids = prompt.attention_mask, prompt.position_ids
                if prompt.shortening is not None and labels is not None:
                    labels = prompt.shortening.apply(labels, padding=-100)
            inputs_embeds = self._embedded(input_ids, image_features, past_key_values)
            if self.vision_twins is not None:
                kwargs["is_vision"] = self._vision_positions(input_ids, image_features, past_key_values)
        decoder = self.language_model
        if isinstance(self.pruner, DecoderPruner):
            is_image = None if input_ids is None else input_ids == self.config.image_token_id
            decoder = partial(call_with_drops, decoder, self.pruner, is_image)
        return decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def encode_prompt(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        image_grids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        padding_side: Literal["left", "right"] = "right",
    ) -> EncodedPrompt:
        """Encode all images of a prompt, and take the placeholders of dropped tokens out of it.

        Args:
            input_ids: as in `forward`.
            pixel_values: as in `forward`.
            image_grids: as in `forward`.
            attention_mask: as in `forward`.
            position_ids: as in `forward`.
            padding_side: of a shortened prompt, where the mask has no padding that shows it.

        Raises:
            ValueError: placeholders and image features differ in number, or the prompt leaves the decoder's context.
        """
        pages, count = self.config.pages_of(len(pixel_values), image_grids), self.config.token_count
        expected = sum(sum(count.span_lengths(page)) for page in pages)
        is_image = input_ids == self.config.image_token_id
        _check_image_tokens(int(is_image.sum()), expected, len(pages))
        if not isinstance(self.pruner, TilePruner):  # said before anything is computed
            self._check_context(input_ids.shape[1], expected)
        tokens = encode_pages(self, pixel_values, pages)
        prompt = EncodedPrompt(input_ids, attention_mask, position_ids, tokens.features)
        if tokens.keep is not None:
            padding_id = getattr(self.config.text_config, "pad_token_id", None) or 0  # any but the placeholder's
            prompt = prompt.without(is_image.masked_scatter(is_image, ~tokens.keep), padding_side, padding_id)
        self._check_context(prompt.input_ids.shape[1], len(tokens.features))
        return prompt

    def _embedded(self, input_ids: Tensor, image_features: Tensor | None, past_key_values: Cache | None) -> Tensor:
        """Embeddings of the prompt, image features in the places of their placeholders, `[B, L, D_text]`."""
        if image_features is None and self._must_touch_vision(past_key_values):
            zero = self.zero_from_vision()  # before the embedding, as on the ranks that have images
            return self.get_input_embeddings()(input_ids) + zero
        inputs_embeds = self.get_input_embeddings()(input_ids)
        if image_features is None:
            return inputs_embeds
        is_image = input_ids == self.config.image_token_id
        _check_image_tokens(int(is_image.sum()), len(image_features))
        return inputs_embeds.masked_scatter(is_image.unsqueeze(-1), image_features.to(inputs_embeds))

    def _check_context(self, length: int, image_tokens: int) -> None:
        limit = getattr(self.config.text_config, "max_position_embeddings", None)
        if limit is not None and length > limit:
            raise ValueError(
                f"The prompt is {length} tokens long ({image_tokens} image tokens in the batch), the decoder takes "
                f"{limit}. Lower it with fewer images, a family of smaller grids (tiling.grids), "
                "compressor=doc_compressor, or pruning=... with a lower keep_ratio."
            )

    def _must_touch_vision(self, past_key_values: Cache | None) -> bool:
        """Whether a batch without images still has to run the vision path.

        In training and under ZeRO-3 every rank must run the same modules, or a rank with text only leaves the
        others waiting. A decoding step has no image on any rank.
        """
        if self.training:
            return torch.is_grad_enabled()
        return is_deepspeed_zero3_enabled() and (past_key_values is None or past_key_values.get_seq_length() == 0)

    def _vision_positions(
        self, input_ids: Tensor, image_features: Tensor | None, past_key_values: Cache | None
    ) -> Tensor | None:
        """Which positions are image features, bool `[B, L]`; None in a decoding step, which has text on every rank."""
        if image_features is not None:
            return input_ids == self.config.image_token_id
        is_decoding = not self.training and past_key_values is not None and past_key_values.get_seq_length() > 0
        return None if is_decoding else torch.zeros_like(input_ids, dtype=torch.bool)

    def zero_from_vision(self) -> Tensor:
        """A zero that depends on the vision path, so that its parameters are gathered and get zero gradients."""
        side, page = input_size(self.config.vision_config), self.config.smallest_page
        blank = torch.zeros(page.num_tiles, 3, side, side, device=self.device, dtype=self.dtype)
        features = encode_pages(self, blank, [page]).features
        return features.mean() * 0.0  # a sum could overflow in float16, and inf * 0 is nan

    def _init_weights(self, module: nn.Module) -> None:
        """Layers of projector and compressor; encoder and decoder initialise themselves.

        A projector's have the decoder's own spread, a compressor's a gain of 1 whatever its width: at a tenth of the
        published width the decoder's spread left a page's crops so faint beside the query that a tiny DocCompressor
        still guessed after 1,500 steps; with a gain near 1 it read two letters in three after 700.

        Biases start at zero. PyTorch's random ones shift all image tokens by about as much as tells them apart: with
        them the demo's model, trained from scratch, still guessed after 1,000 steps; without, it knew shapes by 250.
        """
        std = getattr(self.config.text_config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Projector | Compressor):  # learned queries and ends of tiles and pages
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, std=std)
        if isinstance(module, Compressor):  # comes after its layers
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)


def new_projector(config: LlavaSomConfig) -> Projector:
    """The projector of a config, with fresh weights."""
    projector, options = PROJECTORS.resolve(config.projector)
    return projector(config.vision_width, config.text_config.hidden_size, **options)


def new_compressor(config: LlavaSomConfig) -> Compressor:
    """The compressor of a config, with fresh weights."""
    compressor, options = COMPRESSORS.resolve(config.compressor)
    return compressor(config.text_config.hidden_size, **options)


def _check_image_tokens(placeholders: int, features: int, images: int | None = None) -> None:
    if placeholders != features:
        source = "the image features are" if images is None else f"the {images} image(s) give"
        raise ValueError(
            f"The text has {placeholders} image tokens, {source} {features} features. Was the text truncated, or made "
            "by another model's processor?"
        )

"""Pruners that work inside the decoder, where the prompt has been read: image tokens go after some of its layers.

`call_with_drops` is how the model calls its decoder then. In the prefill (or a training step) hidden states, masks,
labels and each layer's cache get shorter; what the cache of a prompt lacks is remembered with that cache, so that later
steps find masks that fit. Text is never dropped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import Cache, DynamicLayer
from transformers.generation import GenerationMode
from transformers.modeling_outputs import CausalLMOutputWithPast

from llava_som.config_file import option
from llava_som.pruning.base import Pruner, check_share, tokens_to_keep
from llava_som.pruning.sequence import padding_side_of
from llava_som.pruning.shrinking_layers import Continuation, Layers, Prefill


@dataclass(frozen=True, kw_only=True)
class DecoderPruner(Pruner, ABC):
    """Chooses among the image tokens of a prompt by the attention of its last token. Subclasses say after which layers.

    With labels it is the last token before the answer to the last image, so that training drops what inference drops.
    """

    min_tokens: int = option(16, help="a prompt keeps at least so many of its image tokens")
    keep_ratio: float = option(0.5, help="share of the image tokens of a prompt that stay at each drop")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("keep_ratio", self.keep_ratio)

    @abstractmethod
    def drops_after(self, depth: int) -> tuple[int, ...]:
        """How many layers of a decoder of `depth` layers have run at each drop."""

    def drops(self, depth: int) -> tuple[int, ...]:
        """`drops_after`, checked.

        Raises:
            ValueError: layers that the decoder does not have, or whose attention is not followed by another layer.
        """
        drops = self.drops_after(depth)
        if not drops or list(drops) != sorted(set(drops)) or not 0 < drops[0] <= drops[-1] < depth:
            raise ValueError(
                f"{self} drops after decoder layer {', '.join(map(str, drops)) or '(none)'}. This decoder has {depth} "
                f"layers: allowed are 1 to {depth - 1}, ascending."
            )
        return drops

    def budget(self, counts_B: Tensor) -> Tensor:
        """How many of so many image tokens stay at a drop, `[B]`."""
        kept = [tokens_to_keep(self.keep_ratio, count, self.min_tokens) for count in counts_B.tolist()]
        return torch.tensor(kept, device=counts_B.device)


@dataclass(frozen=True)
class PrunedPrompt:
    """What a cache holds of a prompt from which tokens went.

    Attributes:
        length: L, tokens of the prompt as it was given.
        stages: which of the keys are no padding, bool `[B, L']`, by the first layer that has so many.
    """

    length: int
    stages: dict[int, Tensor]


def call_with_drops(
    language_model: Any,
    pruner: DecoderPruner,
    is_image: Tensor | None,
    *,
    inputs_embeds: Tensor,
    attention_mask: Tensor | None,
    past_key_values: Cache | None,
    labels: Tensor | None,
    position_ids: Tensor | None = None,
    **kwargs: Any,
) -> CausalLMOutputWithPast:
    """Call a decoder that drops image tokens on the way; logits and loss are those of the tokens that are left.

    A prompt without images, or one that keeps all of them, is computed as without a pruner. A filled cache is
    continued: from what the cache lacks, nothing further is dropped.

    Args:
        language_model: any causal language model of transformers with dynamic caches.
        pruner: says what goes where.
        is_image: which of the tokens are image features, bool `[B, L]`.
        inputs_embeds: `[B, L, D]`.
        attention_mask: `[B, L]`, with the tokens that the cache holds; None: nothing is padding.
        past_key_values: empty, or from an earlier call.
        labels: `[B, L]`.
        position_ids: `[B, L]`.
        **kwargs: passed to the decoder.

    Raises:
        ValueError: images after the first prompt of a cache, packed rows, or a decoder, cache or mask with which it
            cannot be done.
    """
    inputs = kwargs | {
        "inputs_embeds": inputs_embeds,
        "attention_mask": attention_mask,
        "past_key_values": past_key_values,
        "position_ids": position_ids,
        "return_dict": True,
    }
    if past_key_values is not None and past_key_values.get_seq_length() > 0:
        return _continued(language_model, is_image, inputs, labels)
    if is_image is None:
        raise ValueError("Pruning inside the decoder needs input_ids: inputs_embeds do not tell where images are.")
    if not is_image.any():
        output = language_model(**inputs, labels=labels)
        _remember(output.past_key_values, None)
        return output
    return _prefilled(language_model, pruner, is_image, inputs, labels)


def _prefilled(
    language_model: Any, pruner: DecoderPruner, is_image: Tensor, inputs: dict[str, Any], labels: Tensor | None
) -> CausalLMOutputWithPast:
    layers, mask = Layers.of(language_model), inputs["attention_mask"]
    _check_inputs(inputs)
    _check_router_loss(layers.config, inputs, labels)
    is_token = torch.ones_like(is_image) if mask is None else mask.bool()
    run = Prefill(
        layers,
        pruner.drops(len(layers.modules)),
        pruner.budget,
        is_image,
        is_token,
        query=instruction_end(is_image, is_token, labels),
        padding_side=padding_side_of(mask, "left"),
    )
    with run.in_effect():
        output = language_model(**inputs)
    _remember(output.past_key_values, PrunedPrompt(is_image.shape[1], run.stages) if run.stages else None)
    if labels is not None:
        output.loss = language_model.loss_function(
            logits=output.logits,
            labels=run.left.apply(labels, padding=-100) if run.stages else labels,
            vocab_size=layers.config.vocab_size,
            **{key: value for key, value in inputs.items() if key == "num_items_in_batch"},
        )
    return output


def _continued(
    language_model: Any, is_image: Tensor | None, inputs: dict[str, Any], labels: Tensor | None
) -> CausalLMOutputWithPast:
    embeds, cache = inputs["inputs_embeds"], inputs["past_key_values"]
    if embeds.shape[1] > 1 and is_image is not None and is_image.any():
        raise ValueError(
            "Pruning inside the decoder takes images in the first prompt of a cache only. Give the whole conversation "
            "at once, without past_key_values, or use a pruner that works before the decoder."
        )
    pruned: PrunedPrompt | None = getattr(cache, "pruned_prompt", None)
    if pruned is None:
        return language_model(**inputs, labels=labels)
    rows = {len(is_token) for is_token in pruned.stages.values()}
    if rows != {len(embeds)}:
        raise ValueError(
            f"The cache holds {rows.pop()} pruned prompts and is continued with {len(embeds)} rows. Repeat prompts "
            "before the first call, not their cache."
        )
    new = cache.get_seq_length() + embeds.shape[1] - pruned.length
    is_new_token = torch.ones(len(embeds), new, dtype=torch.bool, device=embeds.device)
    if inputs["attention_mask"] is not None:
        is_new_token = inputs["attention_mask"][:, -new:].bool()
    run = Continuation(Layers.of(language_model), pruned.stages, is_new_token)
    with run.in_effect():
        return language_model(**inputs, labels=labels)


def instruction_end(is_image: Tensor, is_token: Tensor, labels: Tensor | None) -> Tensor:
    """Place of the token that ranks the image tokens, `[B]`: the last one before the answer that follows all images.

    Args:
        is_image: bool `[B, L]`.
        is_token: bool `[B, L]`.
        labels: `[B, L]`, -100 where nothing is learned; None: there is no answer yet, the last token ranks.
    """
    places = torch.arange(is_image.shape[1], device=is_image.device)
    last_image = torch.where(is_image, places, -1).amax(dim=1, keepdim=True)
    before_answer = is_token
    if labels is not None:
        is_answer = (labels != -100) & (places > last_image)
        before_answer = is_token & (is_answer.cumsum(dim=1) == 0)
    return torch.where(before_answer, places, 0).amax(dim=1)


def check_generation(mode: GenerationMode, config: GenerationConfig) -> None:
    """A ValueError for ways of generating in which the last token of the prompt is not the last of the first call."""
    forbidden = {
        "assisted decoding": mode == GenerationMode.ASSISTED_GENERATION,
        "prefill_chunk_size": config.prefill_chunk_size is not None,
        "use_cache=False": config.use_cache is False,
    }
    if found := [name for name, is_asked in forbidden.items() if is_asked]:
        raise ValueError(
            f"Pruning inside the decoder does not go with {', '.join(found)}: image tokens are ranked once, by the "
            "last token of a prompt that is read in one piece. Leave it out, or use a pruner that works before the "
            "decoder."
        )


def _remember(cache: Any, pruned: PrunedPrompt | None) -> None:
    if cache is not None:
        cache.pruned_prompt = pruned


def _check_inputs(inputs: dict[str, Any]) -> None:
    """A ValueError for caches and masks that no layer-by-layer length fits."""
    cache, mask, positions = inputs["past_key_values"], inputs["attention_mask"], inputs["position_ids"]
    kinds = {type(layer) for layer in getattr(cache, "layers", ())}
    if not all(issubclass(kind, DynamicLayer) for kind in kinds):
        raise ValueError(
            f"Pruning inside the decoder needs a cache that grows with each layer's own length, not "
            f"{type(cache).__name__} of {', '.join(sorted(kind.__name__ for kind in kinds))}. Leave "
            "cache_implementation out, or give a DynamicCache."
        )
    if mask is not None and mask.ndim != 2:
        raise ValueError(f"Pruning inside the decoder needs a mask [B, L], not one of shape {list(mask.shape)}.")
    if mask is None and positions is not None and bool((positions.diff(dim=-1) != 1).any()):
        raise ValueError(
            "Pruning inside the decoder does not take rows that are packed with several samples (position_ids start "
            "again, without attention_mask). Turn packing off."
        )


def _check_router_loss(config: Any, inputs: dict[str, Any], labels: Tensor | None) -> None:
    """A ValueError where the decoder would add a loss over tokens of which some are gone."""
    asked = inputs.get("output_router_logits")
    if labels is not None and (getattr(config, "output_router_logits", False) if asked is None else asked):
        raise ValueError(
            f"output_router_logits: the router loss of {config.model_type!r} does not go with pruning inside the "
            "decoder. Set it to False, or use a pruner that works before the decoder."
        )

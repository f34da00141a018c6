"""Generation with images: encoded once before the first step, and the prompt shortened there by what pruning drops.

Shortening inside the first forward would leave `generate` with a prompt that is longer than the cache.
"""

from __future__ import annotations

from collections import ChainMap
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.integrations import is_deepspeed_zero3_enabled

from llava_som.pruning.in_decoder import DecoderPruner, check_generation


class ImageGenerationMixin(GenerationMixin):
    """`generate` of a model with images; see LlavaSomForConditionalGeneration."""

    config: Any
    pruner: Any
    device: Any
    dtype: Any
    encode_prompt: Any
    zero_from_vision: Any

    @torch.no_grad()
    def generate(self, inputs: Any = None, generation_config: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As in transformers. Images are encoded once, whatever the number of beams, samples and steps.

        With pruning the decoder and its cache see the shortened prompt; the returned sequences begin with the prompt as
        it was given. `max_length` and `min_length` count that prompt too.

        Raises:
            ValueError: what `forward` and the pruner refuse, or `prefill_chunk_size` with images.
        """
        generate = partial(super().generate, generation_config=generation_config)  # type: ignore[misc]
        input_ids = kwargs.pop("input_ids", inputs) if inputs is None else inputs
        pixel_values, image_grids = kwargs.pop("pixel_values", None), kwargs.pop("image_grids", None)
        if input_ids is None or (pixel_values is None and not is_deepspeed_zero3_enabled()):
            return generate(input_ids, pixel_values=pixel_values, **kwargs)  # forward refuses pixels without ids
        if pixel_values is None:  # under ZeRO-3 this rank runs the modules that the others run for their images
            self.zero_from_vision()
            nothing = torch.empty(0, self.config.text_config.hidden_size, device=self.device, dtype=self.dtype)
            return generate(input_ids, image_features=nothing, **kwargs)
        asked = ChainMap(*map(_settings, (kwargs, generation_config, self.generation_config)))
        _refuse_chunks(asked.get("prefill_chunk_size"))
        mask, positions = kwargs.pop("attention_mask", None), kwargs.pop("position_ids", None)
        mask = _mask_of(input_ids, asked.get("pad_token_id"), asked.get("eos_token_id")) if mask is None else mask
        prompt = self.encode_prompt(input_ids, pixel_values, image_grids, mask, positions, "left")
        kwargs |= {"attention_mask": prompt.attention_mask, "image_features": prompt.image_features}
        kwargs |= {} if positions is None else {"position_ids": prompt.position_ids}
        # An answer, or a guess at one from the prompt, has no image in it.
        kwargs["suppress_tokens"] = [*asked.get("suppress_tokens", []), self.config.image_token_id]
        if prompt.shortening is None:
            return generate(input_ids, **kwargs)
        dropped = input_ids.shape[1] - prompt.input_ids.shape[1]
        kwargs |= {key: max(asked[key] - dropped, 0) for key in ("max_length", "min_length") if key in asked}
        return _with_prompt(input_ids, generate(prompt.input_ids, **kwargs), prompt.input_ids.shape[1])

    def _validate_generation_mode(self, generation_mode: Any, generation_config: Any, *args: Any) -> None:
        """As in transformers, and what the pruner allows."""
        super()._validate_generation_mode(generation_mode, generation_config, *args)  # type: ignore[misc]
        if isinstance(self.pruner, DecoderPruner):
            check_generation(generation_mode, generation_config)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        *args: Any,
        inputs_embeds: Tensor | None = None,  # named, because transformers looks whether it may be given
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> Any:
        """As in transformers; image features go in with the prompt only, those that a given cache lacks."""
        prepare: Any = super().prepare_inputs_for_generation  # type: ignore[misc]
        named = {"inputs_embeds": inputs_embeds, "is_first_iteration": is_first_iteration}
        inputs = prepare(input_ids, *args, **named, **kwargs)
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs.pop("image_features", None)
        elif (features := inputs.get("image_features")) is not None:
            cached = input_ids.shape[1] - inputs["input_ids"].shape[1]
            if cached:
                is_image = input_ids == self.config.image_token_id
                places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
                inputs["image_features"] = features[places[is_image] >= cached]
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Repeat each row for its beams or samples, and with it the features of all its images."""
        features = kwargs.pop("image_features", None)
        expand = super()._expand_inputs_for_generation  # type: ignore[misc]
        ids, kwargs = expand(expand_size, is_encoder_decoder, input_ids, **kwargs)
        if features is not None and expand_size > 1:
            counts = (input_ids == self.config.image_token_id).sum(dim=1).tolist()
            features = torch.cat([of_row.repeat(expand_size, 1) for of_row in features.split(counts)])
        return ids, kwargs if features is None else {**kwargs, "image_features": features}


def _with_prompt(input_ids: Tensor, output: Any, length: int) -> Any:
    """What `generate` returned, its first `length` tokens replaced by the prompt as it was given."""
    sequences = output if isinstance(output, Tensor) else output.sequences
    prompts = input_ids.repeat_interleave(len(sequences) // len(input_ids), dim=0)
    sequences = torch.cat([prompts, sequences[:, length:]], dim=1)
    if isinstance(output, Tensor):
        return sequences
    output.sequences = sequences
    return output


def _refuse_chunks(prefill_chunk_size: int | None) -> None:
    if prefill_chunk_size is not None:
        raise ValueError(
            f"prefill_chunk_size={prefill_chunk_size}: a prompt with images is read in one piece. Leave it out; fewer "
            "images, a compressor or pruning make the prompt shorter."
        )


def _settings(given: GenerationConfig | dict[str, Any] | None) -> dict[str, Any]:
    """What a config, or the options of `generate`, really say: None leaves it to the next in line."""
    named = vars(given) if isinstance(given, GenerationConfig) else given or {}
    return {name: value for name, value in named.items() if value is not None}


def _mask_of(input_ids: Tensor, pad: int | None, ends: Any) -> Tensor:
    """The mask of a prompt that comes without one, as transformers infers it: what equals a pad token is padding."""
    if pad is None or pad in (ends if isinstance(ends, list) else [ends]):
        return torch.ones_like(input_ids)
    return (input_ids != pad).to(input_ids.dtype)

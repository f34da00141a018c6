"""Generation with images: encoded once before the first step, and the prompt shortened there by what pruning drops.

Shortening inside the first forward would leave `generate` with a prompt that is longer than the cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin
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
        """
        generate = partial(super().generate, generation_config=generation_config)  # type: ignore[misc]
        input_ids = kwargs.pop("input_ids", inputs) if inputs is None else inputs
        pixel_values, image_grids = kwargs.pop("pixel_values", None), kwargs.pop("image_grids", None)
        if input_ids is None or (pixel_values is None and not is_deepspeed_zero3_enabled()):
            return generate(input_ids, **kwargs)
        if pixel_values is None:  # under ZeRO-3 this rank runs the modules that the others run for their images
            self.zero_from_vision()
            nothing = torch.empty(0, self.config.text_config.hidden_size, device=self.device, dtype=self.dtype)
            return generate(input_ids, image_features=nothing, **kwargs)
        prompt = self.encode_prompt(input_ids, pixel_values, image_grids, kwargs.pop("attention_mask", None), "left")
        kwargs |= {"attention_mask": prompt.attention_mask, "image_features": prompt.image_features}
        if prompt.shortening is None:
            return generate(input_ids, **kwargs)
        dropped = input_ids.shape[1] - prompt.input_ids.shape[1]
        for key in {"max_length", "min_length"} & kwargs.keys():
            kwargs[key] = kwargs[key] and kwargs[key] - dropped
        output: Any = generate(prompt.input_ids, **kwargs)
        sequences = output if isinstance(output, Tensor) else output.sequences
        given = input_ids.repeat_interleave(len(sequences) // len(input_ids), dim=0)
        sequences = torch.cat([given, sequences[:, prompt.input_ids.shape[1] :]], dim=1)
        if isinstance(output, Tensor):
            return sequences
        output.sequences = sequences
        return output

    def _validate_generation_mode(self, generation_mode: Any, generation_config: Any, *args: Any) -> None:
        """As in transformers, and what the pruner allows."""
        super()._validate_generation_mode(generation_mode, generation_config, *args)  # type: ignore[misc]
        if isinstance(self.pruner, DecoderPruner):
            check_generation(generation_mode, generation_config)

    def prepare_inputs_for_generation(self, *args: Any, is_first_iteration: bool | None = False, **kwargs: Any) -> Any:
        """As in transformers; image features go in with the prompt only."""
        prepare: Any = super().prepare_inputs_for_generation  # type: ignore[misc]
        inputs = prepare(*args, is_first_iteration=is_first_iteration, **kwargs)
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs.pop("image_features", None)
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

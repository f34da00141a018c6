"""The layers of any causal decoder of transformers, and a reason where an intervention cannot work on a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class DecoderLayers:
    """A decoder and its layers in the order in which they run.

    Attributes:
        model: what is called, adapters taken off.
        decoder: the decoder without its head.
        modules: the layers.
        config: the decoder's.
    """

    model: Any
    decoder: Any
    modules: Sequence[nn.Module]
    config: Any

    @property
    def width(self) -> int:
        """D, of hidden states."""
        return int(self.config.hidden_size)

    @property
    def heads(self) -> int:
        """H, query heads of a layer."""
        return int(self.config.num_attention_heads)

    @classmethod
    def of(cls, model: Any) -> DecoderLayers:
        """The layers of a model.

        Raises:
            ValueError: an encoder-decoder, a compiled model, or no list of layers.
        """
        if hasattr(model, "_orig_mod"):
            raise ValueError(
                "The model is compiled by torch.compile, which does not see interventions. Give the model as it was "
                "before, and generate with disable_compile=True."
            )
        base = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT
        name = getattr(getattr(base, "config", None), "model_type", type(base).__name__)
        if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
            raise ValueError(
                f"{name!r} is an encoder-decoder: interventions work on decoders that read the image and the question "
                "as one sequence, such as llama, qwen2 or llava."
            )
        if not hasattr(base, "get_decoder"):
            raise ValueError(f"{name!r} has no get_decoder(). Give a causal language model of transformers.")
        decoder = base.get_decoder()
        modules = layer_list(decoder)
        if not modules:
            raise ValueError(f"{name!r} has no list of decoder layers that interventions could edit.")
        return cls(base, decoder, modules, decoder.config)

    def image_tokens(self) -> set[int]:
        """Ids of the placeholders of image and video features; empty for a model of text alone."""
        names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
        return {number for name in names if isinstance(number := getattr(self.model.config, name, None), int)}


def layer_list(decoder: Any) -> list[nn.Module]:
    """The layers of a decoder in the order in which they run; empty where it has no list of them."""
    depth = getattr(decoder.config, "num_hidden_layers", 0)
    lists = (part for part in decoder.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    return list(next(lists, ()))

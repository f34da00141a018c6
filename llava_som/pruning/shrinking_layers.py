"""What a decoder's layers are called with once image tokens have left between two of them.

A decoder hands every layer the mask, positions and rotary embeddings of the whole prompt. Forward pre-hooks put those
of the tokens that are left in their place, so that hidden states, keys and values really get shorter and no decoder is
rewritten. Tokens keep the positions they had; a sliding window counts the tokens that are left.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from llava_som.attention.decoder import layer_list
from llava_som.pruning.base import keep_top
from llava_som.pruning.decoder_attention import AttentionRow
from llava_som.pruning.sequence import Shortening

_WHOLE_OUTPUT = {"gpt2", "gpt_bigcode"}  # they shape what their last layer returns like the prompt
_MASKS: dict[str, Any] = {
    "full_attention": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
}


@dataclass(frozen=True)
class Layers:
    """The layers of a decoder.

    Attributes:
        modules: in the order in which they run.
        kinds: "full_attention" or "sliding_attention", of each.
        config: the decoder's.
    """

    modules: Sequence[nn.Module]
    kinds: Sequence[str]
    config: Any

    @classmethod
    def of(cls, language_model: Any) -> Layers:
        """The layers of a causal language model.

        Raises:
            ValueError: they cannot get shorter one by one.
        """
        decoder = language_model.get_decoder()
        config, depth = decoder.config, decoder.config.num_hidden_layers
        modules = layer_list(decoder)
        every = "full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"
        kinds = list(getattr(config, "layer_types", None) or [every] * depth)
        if not modules:
            raise unfit(config, "has no list of layers")
        if others := set(kinds) - _MASKS.keys():
            raise unfit(config, f"has layers with {', '.join(sorted(others))}; it takes {' or '.join(_MASKS)}")
        if config.model_type in _WHOLE_OUTPUT:
            raise unfit(config, "expects its last layer to return as many tokens as the prompt has")
        if getattr(config, "num_kv_shared_layers", 0):
            raise unfit(config, "lets late layers attend to the keys of early ones")
        return cls(modules, kinds, config)


def unfit(config: Any, reason: str) -> ValueError:
    """The error for a decoder inside which no token can be dropped."""
    return ValueError(
        f"Pruning inside the decoder does not work with {config.model_type!r}, which {reason}. Use a pruner that works "
        "before the decoder."
    )


class LayerInputs(ABC):
    """Changes what layers from number `first` on are called with, while `in_effect`."""

    def __init__(self, layers: Layers, first: int) -> None:
        self.layers = layers
        self.first = first
        self._masks: dict[tuple[str, int], Any] = {}

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        """Within, layers are called with what is left of the tokens."""
        with ExitStack() as hooks:
            for number, layer in enumerate(self.layers.modules[self.first :], start=self.first):
                hook = partial(self._before, number)
                hooks.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield

    @abstractmethod
    def change(self, number: int, hidden: Tensor, named: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Hidden states and the other arguments of layer `number`, by name."""

    def _before(
        self, number: int, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(args) > 1:
            names = list(inspect.signature(layer.forward).parameters)
            named = dict(zip(names[1:], args[1:], strict=False)) | named
        hidden = args[0] if args else named.pop("hidden_states")
        hidden, named = self.change(number, hidden, named)
        return (hidden,), named

    def _with_mask(
        self, number: int, hidden: Tensor, named: dict[str, Any], is_token: Tensor, stage: int
    ) -> dict[str, Any]:
        """The arguments with a mask that fits the layer's cache; `is_token` covers cache and new tokens of a stage."""
        if "attention_mask" not in named:
            raise unfit(self.layers.config, "gives its layers no attention_mask")
        kind = self.layers.kinds[number]
        key = (kind, stage)
        if key not in self._masks:
            self._masks[key] = _MASKS[kind](
                config=self.layers.config,
                inputs_embeds=hidden,
                attention_mask=is_token,
                past_key_values=named.get("past_key_values"),
                layer_idx=number,
            )
        return {**named, "attention_mask": self._masks[key]}


class Prefill(LayerInputs):
    """A prompt from which image tokens go, after each of some layers.

    Args:
        layers: of the decoder.
        drops: numbers of the layers before which tokens go, ascending.
        budget: from the image tokens of each row, `[B]`, to how many of them stay.
        is_image: bool `[B, L]`.
        is_token: bool `[B, L]`; False: padding.
        query: place of the token whose attention ranks the image tokens, `[B]`.
        padding_side: where shorter rows are padded.

    Attributes:
        left: the tokens that are left.
        stages: which of a layer's keys are no padding, bool `[B, L']`, by the first layer that has so many.
    """

    def __init__(
        self,
        layers: Layers,
        drops: Sequence[int],
        budget: Callable[[Tensor], Tensor],
        is_image: Tensor,
        is_token: Tensor,
        query: Tensor,
        padding_side: Literal["left", "right"],
    ) -> None:
        super().__init__(layers, first=drops[0] - 1)
        self.drops, self.budget, self.is_image, self.query = drops, budget, is_image, query
        self.padding_side = padding_side
        places = torch.arange(is_image.shape[1], device=is_image.device)
        self.left = Shortening(places.expand_as(is_image), is_token)
        self.stages: dict[int, Tensor] = {}
        self._row: AttentionRow | None = None

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        """Within, the decoder drops tokens."""
        try:
            with super().in_effect():
                yield
        finally:
            if self._row is not None:
                self._row.release()

    def change(self, number: int, hidden: Tensor, named: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Drop what is to be dropped before this layer, and watch it if its attention decides the next drop."""
        if self._row is not None:
            hidden = self._drop(number, hidden, self._row)
        if self.stages:
            named = self._with_mask(number, hidden, named, self.left.is_token, max(self.stages))
            named = {
                name: value if name == "attention_mask" else self._of_those_left(value) for name, value in named.items()
            }
        if number + 1 in self.drops:
            self._watch(number)
        return hidden, named

    def _watch(self, number: int) -> None:
        """Have the layer's attention recorded, unless all image tokens are to stay."""
        counts = self.left.apply(self.is_image, padding=False).sum(dim=1)
        if (self.budget(counts) < counts).any():
            query = (self.left.is_token & (self.left.source == self.query.unsqueeze(1))).int().argmax(dim=1)
            self._row = AttentionRow(query, self.left.is_token)
            self._row.watch(self.layers.modules[number])

    def _drop(self, number: int, hidden: Tensor, row: AttentionRow) -> Tensor:
        self._row = None
        row.release()
        if row.weights is None:
            raise unfit(self.layers.config, "does not compute attention through transformers' attention functions")
        is_image = self.left.apply(self.is_image, padding=False)
        best = keep_top(row.weights.masked_fill(~is_image, -torch.inf), self.budget(is_image.sum(dim=1)))
        step = Shortening.of(torch.where(is_image, best, self.left.is_token), self.padding_side)
        self.left = Shortening(self.left.source.gather(1, step.source), step.is_token)
        self.stages[number] = step.is_token
        return _taken(hidden, step.source)

    def _of_those_left(self, value: Any) -> Any:
        """An argument of a layer, `[1 or B, L, ...]`, without the tokens that are gone; others as they are."""
        if isinstance(value, tuple):
            return tuple(self._of_those_left(item) for item in value)
        if not isinstance(value, Tensor):
            return value
        batch, length = self.is_image.shape
        if value.ndim >= 2 and value.shape[0] in (1, batch) and value.shape[1] == length:
            return _taken(value, self.left.source)
        if length in value.shape:
            shape = list(value.shape)
            raise unfit(self.layers.config, f"gives its layers {shape} numbers (ALiBi?) that cannot be taken apart")
        return value


class Continuation(LayerInputs):
    """Tokens after a prompt from which image tokens went.

    Args:
        layers: of the decoder.
        stages: those of the prompt.
        is_new_token: bool `[B, T]`, of all tokens since.
    """

    def __init__(self, layers: Layers, stages: dict[int, Tensor], is_new_token: Tensor) -> None:
        super().__init__(layers, first=min(stages))
        self.is_token = {first: torch.cat([old, is_new_token], dim=1) for first, old in stages.items()}

    def change(self, number: int, hidden: Tensor, named: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """A mask over the keys that the layer has."""
        stage = max(first for first in self.is_token if first <= number)
        return hidden, self._with_mask(number, hidden, named, self.is_token[stage], stage)


def _taken(values: Tensor, source: Tensor) -> Tensor:
    """`[1 or B, L, ...]` at the places `source` `[B, L']`."""
    rows = torch.arange(len(values), device=values.device).unsqueeze(1)
    return values[rows, source]

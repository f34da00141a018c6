"""A model whose edited layers compute whole matrices of weights and hand them to an intervention's `reweight`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from llava_som.attention.base import Sum
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.reroute import Reroute


@contextmanager
def oracle(method: Any, model: Any, is_image: Tensor, is_token: Tensor) -> Iterator[None]:
    """Within, calls of the model without a cache are edited by the plain mathematics of `method`."""
    layers = DecoderLayers.of(model)
    parts = [part.bound(layers) for part in method.parts]
    memory: dict[str, Any] = {}  # of methods that choose in one layer what they edit in others
    with ExitStack() as undo:
        for number, layer in enumerate(layers.modules):
            chosen = [part for part in parts if number in part.layers_of(len(layers.modules))]
            if chosen:
                edit = _Edit(chosen, number, is_image, is_token, memory)
                edit.reroute.install(layer)
                undo.callback(edit.reroute.remove)
                undo.callback(layer.register_forward_pre_hook(edit.before, with_kwargs=True).remove)
        yield


class _Edit:
    def __init__(self, methods: list[Any], number: int, is_image: Tensor, is_token: Tensor, memory: Any) -> None:
        self.methods, self.number, self.is_image, self.is_token = methods, number, is_image, is_token
        self.known = {"layer": number, "memory": memory}
        self.reroute = Reroute(self.attend)

    def before(self, _layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.hidden = args[0] if args else named["hidden_states"]

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        scores = query @ key.transpose(-1, -2) * (options.get("scaling") or query.shape[-1] ** -0.5)
        if (cap := options.get("softcap")) is not None:
            scores = cap * torch.tanh(scores / cap)
        scores = scores.masked_fill(~self.seen(query.shape[2], options.get("sliding_window")), -torch.inf)
        if (spare := options.get("s_aux")) is not None:
            scores = torch.cat([scores, spare.view(1, -1, 1, 1).expand(*scores.shape[:3], 1).to(scores)], dim=-1)
        weights = scores.softmax(dim=-1)[..., : key.shape[2]].nan_to_num(0.0)
        known = self.known | {"scores": scores[..., : key.shape[2]]}
        weights = Sum(tuple(self.methods)).reweight(weights, self.hidden, self.is_image, **known)
        return (weights @ value).transpose(1, 2), None

    def seen(self, length: int, window: int | None) -> Tensor:
        at = torch.arange(length)
        causal = at[:, None] >= at
        if window is not None:
            causal &= at > at[:, None] - window
        return causal & self.is_token[:, None, None, :]

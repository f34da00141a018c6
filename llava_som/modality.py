"""Modality adaptive decoder layers: image positions have keys, values and norms of their own.

The Modality-Adaptive Module of mPLUG-Owl2 (arXiv 2311.04257), which mPLUG-DocOwl 1.5 and DocOwl2 keep. Queries, output
projection, MLP, last norm, embeddings and head are shared. It sits on any decoder whose layers have the four modules,
whose own weights and names it leaves as they are.
"""

from __future__ import annotations

import copy
from functools import cache, partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.integrations import is_deepspeed_zero3_enabled

TWINNED = ("input_layernorm", "self_attn.k_proj", "self_attn.v_proj", "post_attention_layernorm")

_NOT_SAID: Any = object()


class _Route:
    """The way of one layer's positions, through its modules or their twins.

    Attributes:
        twins: by the last part of a module's name.
        is_vision: which positions are image features, bool `[B, L, 1]`, while the layer runs; None where none is.
    """

    def __init__(self, twins: nn.ModuleDict) -> None:
        self.twins = twins
        self.is_vision: Tensor | None = None
        self._hooks: dict[str, tuple[nn.Module, RemovableHandle]] = {}

    def follow(self, layer: nn.Module) -> None:
        """Hook the modules that stand in the layer now; an adapter such as LoRA takes the place of one for a while."""
        for name in TWINNED:
            module, (hooked, handle) = layer.get_submodule(name), self._hooks.get(name, (None, None))
            if module is not hooked:
                if handle is not None:
                    handle.remove()
                hook = partial(self._chosen, name.rpartition(".")[2])
                self._hooks[name] = module, module.register_forward_hook(hook)

    def _chosen(self, name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook: the module's output, at image positions replaced by that of its twin."""
        if self.is_vision is None:
            return output
        twin = self.twins[name](*args).to(output.device)  # a device map may have put it elsewhere
        return torch.where(self.is_vision.to(output.device), twin, output)


def add_vision_twins(decoder: Any) -> nn.ModuleList:
    """Make a decoder modality adaptive. The twins are copies of its weights, so at first nothing changes.

    From now on every call needs `is_vision`, bool `[B, L]`: which positions are image features. Text and vision are
    both computed at all positions, whatever the batch holds, so that sharded training gathers the same weights on every
    rank; a prompt costs a second key and value projection. `is_vision=None` is for steps that have text alone on every
    rank, such as decoding, and leaves the twins out.

    Args:
        decoder: any causal decoder of transformers, changed in place.

    Returns:
        The twins, by layer and by the name of the module; the caller keeps them.

    Raises:
        ValueError: the layers lack a module; the message names it.
    """
    layers = _layers(decoder)
    return nn.ModuleList(_twins_of(layer) for layer in layers)


def _layers(decoder: Any) -> list[nn.Module]:
    """The decoder's layers, after a check that all of them have what is to be twinned."""
    layers = list(getattr(decoder.get_decoder(), "layers", ()))
    for number, layer in enumerate(layers):
        present = {name for name, _ in layer.named_modules()}
        if missing := [name for name in TWINNED if name not in present]:
            raise ValueError(
                f"modality_adaptive: layer {number} of the decoder {decoder.config.model_type!r} has no "
                f"{', '.join(missing)}. It needs a decoder with these modules, such as llama, mistral or qwen2."
            )
    if not layers:
        raise ValueError(f"modality_adaptive: the decoder {decoder.config.model_type!r} has no list of layers.")
    return layers


def _twins_of(layer: nn.Module) -> nn.ModuleDict:
    twins = _copies({name.rpartition(".")[2]: layer.get_submodule(name) for name in TWINNED})
    route: Any = _Route(twins)
    route.follow(layer)
    layer.vision_route = route
    layer_class: Any = type(layer)
    layer.__class__ = _routed(layer_class)
    return twins


@cache
def _routed(layer_class: type) -> type:
    """The class of a layer that takes `is_vision` besides.

    An argument and not a state of the model, because gradient checkpointing repeats the forward pass with the same
    arguments at a time when the model may have seen another batch.
    """
    base: Any = layer_class

    class Routed(base):
        @wraps(base.forward)  # others look up by name what a layer is called with
        def forward(self, *args: Any, is_vision: Tensor | None = _NOT_SAID, **kwargs: Any) -> Any:
            if is_vision is _NOT_SAID:
                raise ValueError(
                    f"{layer_class.__name__} is modality adaptive and was not told which positions are image features. "
                    "Call the whole model with input_ids, or give is_vision (bool, [B, L]) together with inputs_embeds."
                )
            if is_vision is None:
                return super().forward(*args, **kwargs)
            self.vision_route.follow(self)
            self.vision_route.is_vision = is_vision.unsqueeze(-1)
            try:
                return super().forward(*args, **kwargs)
            finally:
                self.vision_route.is_vision = None

    Routed.__name__, Routed.__qualname__ = layer_class.__name__, layer_class.__qualname__  # by which FSDP wraps layers
    return Routed


def _copies(modules: dict[str, nn.Module]) -> nn.ModuleDict:
    if not is_deepspeed_zero3_enabled():
        return nn.ModuleDict(copy.deepcopy(modules))
    import deepspeed
    from transformers.integrations.deepspeed import deepspeed_config

    weights = [weight for module in modules.values() for weight in module.parameters()]
    with deepspeed.zero.GatheredParameters(weights):  # of a shard alone no copy could be made
        twins = nn.ModuleDict(copy.deepcopy(modules))
    deepspeed.zero.Init(module=twins, config_dict_or_path=deepspeed_config())
    return twins

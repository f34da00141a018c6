"""Another attention function for the modules of one layer, without touching the decoder they belong to.

Attention modules of transformers look their function up in their config at every call. The modules of a rerouted layer
get a copy of that config which names ours; the decoder's own config stays, so masks, other layers and the vision
encoder go on as before, and taking the copy away leaves no trace.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_NAME = "llava_som_reroute"  # no substring of it means anything to transformers: "flash", "sdpa", "/" and "|" would


class Reroute:
    """While installed, a layer's attention modules call `attend` with what they would call their own function with.

    Reroutes of one layer may lie on top of each other; the last one installed is called first and is removed first.

    Args:
        attend: `(module, query [B, H, Q, d], key [B, h, K, d], value, mask, **options) -> (output [B, Q, H, d], weights
            or None)`; keys and values are not repeated for grouped-query attention.
    """

    def __init__(self, attend: Callable[..., Any]) -> None:
        self.attend = attend
        self._configs: dict[nn.Module, PreTrainedConfig] = {}

    def install(self, layer: nn.Module) -> None:
        """Take the place of the attention function in all modules of a layer that have a config."""
        for part in layer.modules():
            config = getattr(part, "config", None)
            if isinstance(config, PreTrainedConfig):
                rerouted: Any = copy.copy(config)
                rerouted._attn_implementation_internal = _NAME  # the property would change shared sub-configs too
                rerouted.llava_som_reroute = self
                part.config = rerouted  # type: ignore[assignment]
                self._configs[part] = config

    def remove(self) -> None:
        """Give the modules their configs back; more than once does no harm."""
        while self._configs:
            part, config = self._configs.popitem()
            part.config = config  # type: ignore[assignment]

    def original(self, module: nn.Module) -> Callable[..., Any]:
        """What the module would call if this reroute were not installed, with the arguments of `attend`."""
        config: Any = self._configs.get(module, module.config)
        if config._attn_implementation == _NAME:
            return config.llava_som_reroute.attend
        return ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, _eager_function(type(module)))  # type: ignore[arg-type]


@cache
def _eager_function(kind: type[nn.Module]) -> Any:
    """The eager attention of the file in which a module's class, or the class it extends, is written."""
    files = (sys.modules[part.__module__] for part in kind.__mro__)
    return next(filter(None, (getattr(file, "eager_attention_forward", None) for file in files)), None)


def _call(module: Any, *args: Any, **options: Any) -> Any:
    return module.config.llava_som_reroute.attend(module, *args, **options)


AttentionInterface.register(_NAME, _call)
AttentionMaskInterface.register(_NAME, sdpa_mask)  # a decoder that asks a layer's config for its mask gets a causal one

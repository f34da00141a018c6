"""Queries and keys of a vision encoder's blocks, taken by hooks while it runs: no attention map is ever asked of it.

SDPA and flash attention return no maps; what pruners need of them is one row, which is computed here from the
projections' outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

_NAMES = (("q_proj", "k_proj"), ("query", "key"))  # CLIP, SigLIP, DINOv3; ViT, DINOv2


@dataclass
class QueriesAndKeys:
    """Of one block, over prefix and patch tokens.

    Attributes:
        num_prefix: tokens before the patches; the first is the class token.
        heads: attention heads.
        queries: `[N, prefix + T, C]`.
        keys: `[N, prefix + T, C]`.
    """

    num_prefix: int
    heads: int
    queries: Tensor = field(default_factory=lambda: torch.empty(0))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))

    def patch_keys(self) -> Tensor:
        """Keys of the patches, `[N, T, C]`."""
        return self.keys[:, self.num_prefix :]

    def attention_of_page(self) -> Tensor:
        """How the page as a whole attends to its patches, mean over heads, `[N, T]`, summing to 1.

        The page's query is that of the class token; the mean query of the patches where there is none.
        """
        query = self.queries[:, 0] if self.num_prefix else self.queries.mean(dim=1)
        query_NHd = query.unflatten(-1, (self.heads, -1)).float()
        keys_NTHd = self.patch_keys().unflatten(-1, (self.heads, -1)).float()
        logits = torch.einsum("nhd,nthd->nht", query_NHd, keys_NTHd) * query_NHd.shape[-1] ** -0.5
        return logits.softmax(dim=-1).mean(dim=1)


@contextmanager
def captured_attention(tower: Any, layers: Sequence[int], num_prefix: int) -> Iterator[dict[int, QueriesAndKeys]]:
    """Within, one call of the tower fills the result: queries and keys of the blocks `layers`, by these numbers.

    Raises:
        ValueError: the encoder has no such block, or no separate query and key projections.
    """
    captured: dict[int, QueriesAndKeys] = {}
    with ExitStack() as hooks:
        for layer in dict.fromkeys(layers):
            query, key = _projections(tower, layer)
            found = captured[layer] = QueriesAndKeys(num_prefix, tower.config.num_attention_heads)
            hooks.enter_context(_removed_at_end(query.register_forward_hook(_storing(found, "queries"))))
            hooks.enter_context(_removed_at_end(key.register_forward_hook(_storing(found, "keys"))))
        yield captured


@contextmanager
def _removed_at_end(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _storing(found: QueriesAndKeys, name: str) -> Any:
    def store(module: nn.Module, inputs: Any, output: Tensor) -> None:
        setattr(found, name, output.detach())

    return store


def _projections(tower: Any, layer: int) -> tuple[nn.Module, nn.Module]:
    """The query and key projections of a block."""
    kind = tower.config.model_type
    count = getattr(tower.config, "num_hidden_layers", 0)
    blocks = [part for part in tower.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not blocks or not hasattr(tower.config, "num_attention_heads"):
        raise ValueError(
            f"The vision encoder {kind!r} has no attention blocks to take scores from. Use a pruner that needs none: "
            "blank_patch, uniform_stride or random."
        )
    if not -count <= layer < count:
        raise ValueError(f"The vision encoder {kind!r} has blocks 0 to {count - 1} (or -1 to -{count}), not {layer}.")
    for query_name, key_name in _NAMES:
        named = dict(blocks[0][layer].named_modules())
        query = [part for name, part in named.items() if name.rpartition(".")[2] == query_name]
        key = [part for name, part in named.items() if name.rpartition(".")[2] == key_name]
        if query and key:
            return query[0], key[0]
    raise ValueError(
        f"The blocks of the vision encoder {kind!r} have no projections called {' or '.join(map('/'.join, _NAMES))}."
    )

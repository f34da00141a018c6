"""Queries and keys of a vision encoder's blocks, taken by hooks while it runs: no attention map is ever asked of it.

SDPA and flash attention return no maps; what pruners need of them is one row, which is computed here from the
projections' outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

_NAMES = (("q_proj", "k_proj"), ("query", "key"))  # CLIP, SigLIP, DINOv3; ViT, DINOv2

PageQuery = Literal["cls", "mean_patch"]
HeadReduction = Literal["mean", "max"]


@dataclass
class QueriesAndKeys:
    """Of one block: the queries of the page as a whole, and all keys.

    Attributes:
        num_prefix: tokens before the patches; the first is the class token.
        heads: attention heads.
        keys: of prefix and patch tokens, `[N, prefix + T, C]`.
        mean_query: mean query of the patches, `[N, C]`.
        class_query: query of the class token, `[N, C]`; None where there is none.
    """

    num_prefix: int
    heads: int
    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    mean_query: Tensor = field(default_factory=lambda: torch.empty(0))
    class_query: Tensor | None = None

    def take_queries(self, queries: Tensor) -> None:
        """What is needed of `[N, prefix + T, C]`; copied, as a view would hold all of them in memory."""
        self.class_query = queries[:, 0].clone() if self.num_prefix else None
        self.mean_query = queries[:, self.num_prefix :].mean(dim=1)

    def take_keys(self, keys: Tensor) -> None:
        """`[N, prefix + T, C]`."""
        self.keys = keys

    def patch_keys(self) -> Tensor:
        """Keys of the patches, `[N, T, C]`."""
        return self.keys[:, self.num_prefix :]

    def head_mean_keys(self) -> Tensor:
        """Keys of the patches, averaged over the heads, `[N, T, C / heads]`."""
        return self.patch_keys().unflatten(-1, (self.heads, -1)).mean(dim=2)

    def attention_of_page(
        self, query: PageQuery = "cls", head_reduce: HeadReduction = "mean", single_head: bool = False
    ) -> Tensor:
        """The weight of each patch when the page as a whole attends, float32 `[N, T]`.

        As the block computes it, over prefix and patches: what is missing to 1 went to the prefix.

        Args:
            query: whose attention: that of the class token, or the mean query of the patches. An encoder without a
                class token always has the second.
            head_reduce: over the heads; their sum ranks patches as their mean does.
            single_head: take the full width as one head (PruMerge).
        """
        taken = self.mean_query if query == "mean_patch" or self.class_query is None else self.class_query
        heads = 1 if single_head else self.heads
        query_NHd = taken.float().unflatten(-1, (heads, -1))
        keys_NSHd = self.keys.float().unflatten(-1, (heads, -1))
        logits_NHS = torch.einsum("nhd,nshd->nhs", query_NHd, keys_NSHd) * query_NHd.shape[-1] ** -0.5
        weights_NHT = logits_NHS.softmax(dim=-1)[..., self.num_prefix :]
        return weights_NHT.amax(dim=1) if head_reduce == "max" else weights_NHT.mean(dim=1)


def outliers(attention_NU: Tensor, iqr_factor: float) -> Tensor:
    """Weights above the upper fence of their tile, `Q3 + iqr_factor * (Q3 - Q1)`, bool `[N, U]`."""
    low, high = attention_NU.float().quantile(attention_NU.new_tensor([0.25, 0.75]), dim=1)
    return attention_NU > (high + iqr_factor * (high - low)).unsqueeze(1)


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
            hooks.enter_context(_after(query, found.take_queries))
            hooks.enter_context(_after(key, found.take_keys))
        yield captured


@contextmanager
def _after(module: nn.Module, take: Callable[[Tensor], None]) -> Iterator[None]:
    """Within, `take` gets what the module returns."""
    handle = module.register_forward_hook(lambda module, inputs, output: take(output.detach()))
    try:
        yield
    finally:
        handle.remove()


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

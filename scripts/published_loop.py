"""VAR and ACT as they were released: whole weights by eager attention, then a loop over heads.

Written anew from what the released code computes, without what it wastes besides: copies of all weights before every
edit, and weights and hidden states of all layers kept until the end. Its time is a lower bound of the released code's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import repeat_kv

from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.reroute import Reroute
from llava_som.attention.sinks import sink_value

Edit = Callable[[Tensor], None]


def eager(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, edit: Edit | None = None
) -> Tensor:
    """Attention as the models of transformers write it, `[B, Q, H, dv]`, its weights edited in place if wanted."""
    groups = query.shape[1] // key.shape[1]
    weights = query @ repeat_kv(key, groups).transpose(2, 3) * scaling
    if mask is not None:
        weights = weights + mask
    weights = weights.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
    if edit is not None:
        edit(weights)
    return (weights @ repeat_kv(value, groups)).transpose(1, 2).contiguous()


def var_in_place(
    weights: Tensor,
    is_sink: Tensor,
    is_image: Tensor,
    *,
    kept: float = 0.6,
    rho: float = 0.5,
    image_mass: float = 0.2,
) -> int:
    """VAR on one prompt, head by head.

    Args:
        weights: of the last Q of K tokens, `[1, H, Q, K]`; changed in place.
        is_sink: bool `[P]`, of the first tokens, which is where sinks are looked for.
        is_image: bool `[P]`.
        kept: share of their attention that sinks keep.
        rho: largest share of sinks in the image attention of a head that is edited.
        image_mass: least attention to the image of such a head.

    Returns:
        How many rows were changed.
    """
    (own,) = weights
    sinks, image_sinks, others, image = (
        chosen.nonzero().flatten() for chosen in (is_sink, is_sink & is_image, is_image & ~is_sink, is_image)
    )
    if not len(image_sinks):
        return 0
    begin = max(int(image[-1]) + 1 - (own.shape[2] - own.shape[1]), 0)
    in_image = own[:, begin:, image].sum(dim=-1)
    share = own[:, begin:, image_sinks].sum(dim=-1) / in_image
    chosen = (in_image >= image_mass) & (share <= rho) & (share > 0)
    changed = 0
    for head in range(len(own)):
        rows = chosen[head].nonzero() + begin
        if not len(rows):
            continue
        changed += len(rows)
        from_sinks, to_image = own[head, rows, sinks], own[head, rows, others]
        budget = (1 - kept) * from_sinks.sum(dim=-1, keepdim=True)
        own[head, rows, sinks] = kept * from_sinks
        own[head, rows, others] = to_image + budget * to_image / to_image.sum(dim=-1, keepdim=True)
    return changed


def act_in_place(weights: Tensor, heads: Sequence[int], *, limit: float, beta: float = 0.4) -> int:
    """ACT on one whole prompt, head by head.

    Args:
        weights: `[1, H, T, T]`; changed in place.
        heads: which are calibrated.
        limit: a sink gets more of the attention than this, mean over the queries that see it.
        beta: share of their attention that sinks keep.

    Returns:
        In how many heads there were sinks.
    """
    (own,) = weights
    queries = torch.arange(own.shape[1], 0, -1, device=own.device)  # that see each key
    changed = 0
    for head in heads:
        sinks = (own[head].sum(dim=0) / queries > limit).nonzero().flatten()
        sinks = sinks[sinks > 0]  # never the first token
        if not len(sinks):
            continue
        changed += 1
        from_sinks = own[head][:, sinks]
        own[head][:, sinks] = 0
        rest = own[head].sum(dim=-1, keepdim=True)
        own[head] *= 1 + (1 - beta) * from_sinks.sum(dim=-1, keepdim=True) / rest
        own[head][:, sinks] = beta * from_sinks
    return changed


@contextmanager
def published_var(
    model: Any, layers: Sequence[int], dims: Sequence[int], is_image: Tensor, tau: float = 20.0, **gate: float
) -> Iterator[list[int]]:
    """Within, layers of an eager model read one prompt as the released code does; how many rows changed, call by call.

    Args:
        model: with attn_implementation="eager".
        layers: numbers of the layers to edit.
        dims: sink dimensions.
        is_image: bool `[P]`, of the prompt.
        tau: what a sink exceeds in a sink dimension.
        gate: `rho` and `image_mass`, see `var_in_place`.
    """
    counts: list[int] = []
    edits = [_Layer(dims, is_image, tau, gate, counts) for _ in layers]
    modules = [DecoderLayers.of(model).modules[number] for number in layers]
    for edit, module in zip(edits, modules, strict=True):
        edit.install(module)
    try:
        yield counts
    finally:
        for edit in edits:
            edit.remove()


class _Layer:
    """One layer: its sinks are found in the prompt, and kept."""

    def __init__(
        self, dims: Sequence[int], is_image: Tensor, tau: float, gate: dict[str, float], counts: list[int]
    ) -> None:
        self.dims, self.is_image, self.tau, self.gate, self.counts = list(dims), is_image, tau, gate, counts
        self.reroute = Reroute(self.attend)
        self.is_sink: Tensor | None = None

    def install(self, layer: nn.Module) -> None:
        self.reroute.install(layer)
        self.hook = layer.register_forward_pre_hook(self.before, with_kwargs=True)

    def remove(self) -> None:
        self.reroute.remove()
        self.hook.remove()

    def before(self, _layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = args[0] if args else named["hidden_states"]
        if hidden.shape[1] > 1:
            self.is_sink = sink_value(hidden, self.dims)[0] > self.tau

    def attend(self, _module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        return eager(query, key, value, mask, options["scaling"], self.edit), None

    def edit(self, weights: Tensor) -> None:
        assert self.is_sink is not None
        self.counts.append(var_in_place(weights, self.is_sink, self.is_image, **self.gate))

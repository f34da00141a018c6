"""Calls of a model that run the decoder's layers from one on, with a recorded input.

What varies in a layer leaves those below it as they were, so they need not run again. Nothing of a decoder's own loop
is copied: skipped layers hand on what they get, and the first that runs is given what it got before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def recorded_input(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Within, the input of a layer, `[B, T, D]`, is added to the list at each call; copies in main memory."""
    inputs: list[Tensor] = []

    def record(_layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs.append((args[0] if args else named["hidden_states"]).to("cpu", copy=True))

    hook = layer.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield inputs
    finally:
        hook.remove()


@contextmanager
def started_at(layers: Sequence[nn.Module], first: int, hidden: Tensor, outputs: Any) -> Iterator[None]:
    """Within, a call of the model runs the layers from `first` on.

    Args:
        layers: of the decoder, in order.
        first: number of the first that runs.
        hidden: its input, `[B, T, D]`, from a call with the same inputs.
        outputs: how long the tuple is that a layer returns; None where it returns a tensor.
    """

    def give(_layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        here = (args[0] if args else named["hidden_states"]).device
        own = hidden.to(here, copy=True)
        return ((own, *args[1:]), named) if args else (args, {**named, "hidden_states": own})

    def hand_on(hidden_states: Tensor, *_args: Any, **_named: Any) -> Any:
        return hidden_states if outputs is None else (hidden_states, *[None] * (outputs - 1))

    hook = layers[first].register_forward_pre_hook(give, with_kwargs=True, prepend=True)
    before = [vars(layer).get("forward") for layer in layers[:first]]
    try:
        for layer in layers[:first]:
            layer.forward = hand_on
        yield
    finally:
        hook.remove()
        for layer, forward in zip(layers[:first], before, strict=True):
            if forward is None:
                vars(layer).pop("forward", None)
            else:
                layer.forward = forward

"""One layer while interventions edit it: what it reads is seen by a hook, its attention rerouted to `attend`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llava_som.attention.call import LayerCall
from llava_som.attention.explicit_rows import Step
from llava_som.attention.prompt import Prompt
from llava_som.attention.reroute import Reroute
from llava_som.attention.routes import attend

if TYPE_CHECKING:
    from llava_som.attention.session import Session


@dataclass(frozen=True)
class LayerInput:
    """What a layer was called with, until its attention is.

    Attributes:
        hidden: `[B, Q, D]`.
        prompt: what is known of the tokens.
        past: tokens that the cache held before.
        offset: position of the first key that attention will see.
    """

    hidden: Tensor
    prompt: Prompt
    past: int
    offset: int


class LayerEdit:
    """The edit of one layer, from its making to `remove`."""

    def __init__(self, session: Session, number: int, layer: nn.Module) -> None:
        self.session = session
        self.number = number
        self._reroute = Reroute(self._attend)
        self._reroute.install(layer)
        self._hook = layer.register_forward_pre_hook(self._before, with_kwargs=True)
        self._names = list(inspect.signature(layer.forward).parameters)
        self._input: LayerInput | None = None

    def remove(self) -> None:
        """Leave the layer as it was."""
        self._reroute.remove()
        self._hook.remove()

    def _before(self, _layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = dict(zip(self._names, args, strict=False)) | named
        hidden, cached = given["hidden_states"], given.get("past_key_values")
        offset = 0 if cached is None else int(cached.get_mask_sizes(hidden.shape[1], self.number)[1])
        prompt, past = self.session.prompt_for(cached, self.number, hidden)
        self._input = LayerInput(hidden, prompt, past, offset)

    def _attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        original = self._reroute.original(module)
        _check_state(module, options)
        assert self._input is not None, "attention without its layer's input"
        given, self._input = self._input, None
        methods = self.session.methods_at(self.number, given.prompt)
        if not methods:
            return original(module, query, key, value, mask, **options)
        call = self._call(given, query, key, value, mask, options)
        steps = [Step.of(method, call, tally) for method, tally in methods]
        routes = {method.route for method, _ in methods} - {"auto"}

        def unedited(rows: int) -> Tensor:
            """The first queries alone, where the decoder's function needs no more to know what they see."""
            parts, is_short = (query, key, value), rows < query.shape[2]
            if is_short and call.past == call.offset == 0 and mask is None:
                parts = tuple(part[:, :, :rows] for part in parts)  # type: ignore[assignment]
            output, _ = original(module, *parts, mask, **options)
            return output.transpose(1, 2)[:, :, :rows]

        output = attend(call, steps, unedited, "rows" if "rows" in routes else next(iter(routes), "auto"))
        return output.transpose(1, 2).contiguous(), None

    def _call(
        self, given: LayerInput, query: Tensor, key: Tensor, value: Tensor, mask: Any, options: dict[str, Any]
    ) -> LayerCall:
        held = min(key.shape[2], given.past + query.shape[2] - given.offset)  # a static cache has room for more
        return LayerCall(
            layer=self.number,
            hidden=given.hidden,
            prompt=given.prompt,
            past=given.past,
            offset=given.offset,
            query=query,
            key=key[:, :, :held],
            value=value[:, :, :held],
            mask=mask,
            options=options,
            is_regular=self.session.is_regular(mask, given.prompt.tokens, given.past, query.shape[2]),
        )


def _check_state(module: Any, options: dict[str, Any]) -> None:
    if torch.compiler.is_compiling():
        raise ValueError(
            "Interventions do not work in code compiled by torch.compile. Give generate(disable_compile=True), which a "
            "static cache on a GPU needs, or leave torch.compile out."
        )
    if module.training or options.get("dropout", 0.0):
        raise ValueError(
            f"Attention runs in training mode or with dropout={options.get('dropout', 0.0)}. Interventions are for "
            "inference: call model.eval()."
        )

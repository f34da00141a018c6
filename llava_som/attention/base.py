"""What every intervention is: frozen options with a paper, a context manager, and an oracle.

Two kinds of edit. `KeyGroups` sorts keys into groups (sinks, image, rest) and multiplies the attention to each group by
a coefficient that depends on how much attention the groups get; that needs no weights, so fused kernels do the work.
`RowFunction` rewrites weights of rows freely, and its rows are computed one block at a time.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from llava_som.config_file import option

if TYPE_CHECKING:
    from transformers import LogitsProcessor

    from llava_som.attention.call import LayerCall
    from llava_som.attention.decoder import DecoderLayers
    from llava_som.attention.session import Run


@dataclass(frozen=True, kw_only=True)
class Intervention(ABC):
    """An edit of a decoder while it runs: of its attention, of its logits, or of both."""

    paper: ClassVar[str]
    needs_image: ClassVar[bool] = False
    edits_attention: ClassVar[bool] = True  # False: it works on logits alone
    only_looks: ClassVar[bool] = False  # True: it reads rows of attention and changes none

    layers: list[int] | None = option(None, help="numbers of the decoder layers to edit; by default those of the paper")
    route: str = option(
        "auto",
        help="how prompts are computed: fused (ranges of keys by fused kernels), rows (edited rows explicitly) or auto",
    )

    def __post_init__(self) -> None:
        if self.route not in ("auto", "fused", "rows"):
            raise ValueError(f"route={self.route!r}: allowed are auto, fused and rows.")
        if self.layers is not None and not self.edits_attention:
            raise ValueError(f"layers={self.layers}: {self.name} edits no attention, so leave layers out.")

    def on(self, model: Any) -> AbstractContextManager[Run]:
        """Edit a model within a `with` block; nothing of it is left afterwards, also after an error.

        Blocks may be nested: inner interventions are applied after outer ones.

        Args:
            model: a causal language model of transformers, with or without a vision encoder, in eval mode.

        Returns:
            The run, whose `table()` tells what was edited.

        Raises:
            ValueError: a model that it does not fit, or one that it is on already.
        """
        from llava_som.attention.session import run

        return run(self, model)

    def __add__(self, other: Intervention) -> Sum:
        """Both: `other` is applied to what this one leaves. Each looks for its sinks in the model's own attention."""
        return Sum((*self.parts, *other.parts))

    @property
    def name(self) -> str:
        """What errors and tables call it."""
        return type(self).__name__

    @property
    def parts(self) -> tuple[Intervention, ...]:
        """The interventions of a sum, in order."""
        return (self,)

    def bound(self, decoder: DecoderLayers) -> Intervention:
        """This intervention with what depends on the decoder filled in; a ValueError where it does not fit."""
        return self

    def default_layers(self, depth: int) -> Sequence[int]:
        """The layers that the paper edits, of `depth`."""
        return range(depth)

    def layers_of(self, depth: int) -> list[int]:
        """`layers`, or the default, checked."""
        chosen = list(self.default_layers(depth)) if self.layers is None else self.layers
        if wrong := [number for number in chosen if not 0 <= number < depth]:
            raise ValueError(f"layers={wrong}: this decoder has {depth} layers; allowed are 0 to {depth - 1}.")
        return sorted(set(chosen))

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed, for a warning."""
        if self.needs_image and not had_image:
            return "there was no image in the prompt"
        return "no row qualified"

    def processor(self, model: Any, inputs: Mapping[str, Any]) -> LogitsProcessor | None:
        """What changes the logits of each step of a `generate` call on `inputs`; None: only attention is edited."""
        return None

    def first_row(self, call: LayerCall) -> Tensor:
        """Position of the first query that is edited, `[B]`; `NEVER` in prompts that are left alone."""
        return call.tokens.first

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None
    ) -> Tensor:
        """The edit in plain mathematics, over whole weights: the oracle that fast computations are tested against.

        Args:
            attention: weights of the last Q of K tokens, `[B, H, Q, K]`.
            hidden: input of the layer, `[B, K, D]`.
            is_image: bool `[B, K]`.
            observed: weights that sinks are looked for in; None: `attention`.

        Returns:
            `[B, H, Q, K]`.
        """
        return attention


@dataclass(frozen=True, kw_only=True)
class KeyGroups(Intervention):
    """Multiplies the attention to each of some groups of keys."""

    groups: ClassVar[tuple[str, ...]]  # by label; the first is what is in no other

    @abstractmethod
    def labels(self, call: LayerCall) -> Tensor:
        """The group of each token, uint8 `[B, L]`, or by head `[B, H, L]`. Called once for each layer and call."""

    @abstractmethod
    def coefficients(self, mass_HRG: Tensor) -> Tensor:
        """What the attention to each group is multiplied by, `[..., H, R, G]`, from how much each group gets.

        The masses are float32 or float64 and those of the weights as earlier interventions left them.
        """


@dataclass(frozen=True, kw_only=True)
class RowFunction(Intervention):
    """Rewrites rows of weights."""

    @abstractmethod
    def rewrite(self, weights: Tensor, scores: Tensor, call: LayerCall, rows: slice) -> Tensor:
        """New weights of some rows.

        Args:
            weights: `[B, H, R, K]`, as earlier interventions left them.
            scores: the decoder's logits, -inf where a query does not see a key.
            call: the attention call.
            rows: which of its queries.
        """


@dataclass(frozen=True, kw_only=True)
class Sum(Intervention):
    """Several interventions, one after the other."""

    paper: ClassVar[str] = "see its parts"

    summands: tuple[Intervention, ...] = field(kw_only=False)

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"{', '.join(sorted(twice))} twice: an intervention can be on a model only once at a time."
            )

    @property
    def name(self) -> str:
        """The parts' names."""
        return " + ".join(part.name for part in self.summands)

    @property
    def parts(self) -> tuple[Intervention, ...]:
        """The summands, and those of summands that are sums."""
        return tuple(part for summand in self.summands for part in summand.parts)

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None, **further: Any
    ) -> Tensor:
        """Each part's in turn; all look for sinks in the first weights. `further` goes to the parts that ask for it."""
        observed = attention if observed is None else observed
        for part in self.parts:
            asked = inspect.signature(part.reweight).parameters
            own = {name: value for name, value in further.items() if name in asked}
            attention = part.reweight(attention, hidden, is_image, observed=observed, **own)
        return attention


def one_hot(labels: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """Labels `[..., K]` as columns `[..., K, G]`."""
    return (labels.unsqueeze(-1) == torch.arange(groups, device=labels.device)).to(dtype)

"""VAR, Visual Attention Redistribution (Kang et al., ICLR 2025, arXiv 2503.03321).

In heads that look at the image, part of the attention wasted on sink tokens is given to the other image tokens, in
proportion to what they have. Paper and released code differ in nearly every parameter; both are here as presets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import KeyGroups
from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.sinks import checked_dims, reachable, resolved_dims, sink_value
from llava_som.config_file import option

_PAPER_RHO = {"general": 0.8, "hallucination": 0.5, "vision_centric": 0.9}
_REPO_RHO = 0.5
_REST, _TEXT_SINK, _IMAGE_SINK, _IMAGE = range(4)


@INTERVENTIONS.register("var")
@dataclass(frozen=True, kw_only=True)
class VAR(KeyGroups):
    """Attention from sinks to image tokens, in the rows after the image.

    What the presets do, and what `p` and `rho` mean in each:

    | | paper | repo |
    | --- | --- | --- |
    | p, 0.6 | share of the sinks' attention that moves | share that they keep |
    | rho | least share of a head's image attention off its sinks, by task | largest share on them, 0.5 |
    | sinks | any token, also a generated one: phi >= tau | tokens of the prompt: phi > tau |
    | rows edited | also with sinks in the text alone | only with a sink in the image |
    | layers | all but the last | all but the first two |

    Both rhos are one rule only at 0.5: 0.8 in the paper is 0.2 in the repo. Faults of the released code (sinks of the
    first sample used for all later ones, the dimensions of 7B used for 13B) are no options.
    """

    paper: ClassVar[str] = "Kang et al., See What You Are Told: Visual Attention Sink in LMMs, ICLR 2025"
    needs_image: ClassVar[bool] = True
    groups: ClassVar[tuple[str, ...]] = ("rest", "sinks in text", "sinks in image", "image")

    preset: Literal["paper", "repo"] = option("paper", help="as published (paper), or as the released code does (repo)")
    task: Literal["general", "hallucination", "vision_centric"] | None = option(
        None, help="the paper's rho, tuned on benchmarks: general 0.8 (default), hallucination 0.5, vision_centric 0.9"
    )
    rho: float | None = option(None, help="instead of task: how a head's image attention is split; see the presets")
    p: float = option(0.6, help="how much of the sinks' attention moves (paper) or stays (repo)")
    image_mass: float = option(0.2, help="least attention to the image of a head that is edited")
    tau: float = option(20.0, help="least value of a sink: its largest sink dimension over the root mean square of all")
    tau_rel: float | None = option(
        None, help="instead of tau, a share of the largest possible value, sqrt(D); 0.31 is 20 of D=4096"
    )
    sink_dims: list[int] | Literal["auto"] | None = option(
        None, help="sink dimensions of the decoder; by default from a table of published ones; auto finds them"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("p", "image_mass", "rho", "tau_rel"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: must be from 0 to 1.")
        if self.preset not in ("paper", "repo"):
            raise ValueError(f"preset={self.preset!r}: allowed are paper and repo.")
        if self.task is not None and self.task not in _PAPER_RHO:
            raise ValueError(f"task={self.task!r}: allowed are {', '.join(_PAPER_RHO)}.")
        if self.task is not None and (self.preset == "repo" or self.rho is not None):
            raise ValueError(
                f"task={self.task!r} chooses the paper's rho; with preset={self.preset!r} and rho={self.rho} it has no "
                "effect. Leave task out (preset repo: rho is 0.5, or what you give)."
            )
        if isinstance(self.sink_dims, str) and self.sink_dims != "auto":
            raise ValueError(f"sink_dims={self.sink_dims!r}: give a list of numbers, or auto.")

    def bound(self, decoder: DecoderLayers) -> VAR:
        """With the sink dimensions of this decoder."""
        tau = self._tau(decoder.width)
        return replace(self, sink_dims=resolved_dims(self.sink_dims, decoder, tau))

    def default_layers(self, depth: int) -> Sequence[int]:
        """All but the last (paper), all but the first two (repo)."""
        return range(depth - 1) if self.preset == "paper" else range(2, depth)

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        if not had_image:
            return super().idle_reason(had_image)
        if self._moved == 0:
            return f"p={self.p} moves nothing in preset {self.preset}"
        return (
            f"no token reaches tau in dimensions {self.sink_dims}, which may be those of another model, or no head had "
            f"at least {self.image_mass} of its attention on the image and few enough of that on sinks. "
            "llava_som.attention.discovery.discover(model) finds the model's own dimensions"
        )

    def first_row(self, call: LayerCall) -> Tensor:
        """The query after the last image token."""
        return call.tokens.image_end

    def labels(self, call: LayerCall) -> Tensor:
        """Sinks in the text, sinks in the image, the rest of the image."""
        if self.preset == "repo" and call.past and call.hidden.shape[1] == 1:  # a token that was generated
            is_sink = torch.zeros(call.hidden.shape[:2], dtype=torch.bool, device=call.hidden.device)
        else:
            is_sink = self._is_sink(call.hidden)
        is_sink = call.remember("sink", is_sink)
        is_image = call.tokens.is_image.to(is_sink.device)
        in_image = torch.where(is_sink, _IMAGE_SINK, _IMAGE)
        return torch.where(is_image, in_image, torch.where(is_sink, _TEXT_SINK, _REST)).to(torch.uint8)

    def coefficients(self, mass_HRG: Tensor) -> Tensor:
        """Sinks keep 1 - moved, image tokens that are none get the rest; both 1 in heads that are not image-centric."""
        in_text, in_sinks, elsewhere = mass_HRG[..., 1:].unbind(dim=-1)
        moved = self._moved * self._selected(in_sinks, elsewhere).to(in_sinks.dtype)
        received = moved * (in_text + in_sinks) / elsewhere.clamp(min=torch.finfo(elsewhere.dtype).tiny)
        return torch.stack([torch.ones_like(moved), 1 - moved, 1 - moved, 1 + received], dim=-1)

    def _selected(self, in_sinks: Tensor, elsewhere: Tensor) -> Tensor:
        """Whether a head looks at the image and mostly past its sinks; Section 4.2. By masses on the image's tokens."""
        in_image = in_sinks + elsewhere
        looks = (in_image >= self.image_mass) & (elsewhere > 0)
        if self.preset == "paper":
            return looks & (elsewhere >= self._rho * in_image)
        return looks & (in_sinks <= self._rho * in_image) & (in_sinks > 0)

    def reweight(
        self, attention: Tensor, hidden: Tensor, is_image: Tensor, *, observed: Tensor | None = None
    ) -> Tensor:
        """Sections 4.2 and 4.3 as they are written, one prompt after the other, in whole weights."""
        assert isinstance(self.sink_dims, list), "bound first"
        checked_dims(self.sink_dims, hidden.shape[-1])
        is_sink = self._is_sink(hidden)
        positions = torch.arange(attention.shape[3], device=attention.device)
        edited = attention.clone()
        for row, (sinks, image) in enumerate(zip(is_sink, is_image, strict=True)):
            if not image.any():
                continue
            weights = attention[row]
            is_after = positions[-weights.shape[1] :] > positions[image].max()
            image_mass = weights[..., image].sum(dim=-1)
            non_sinks = weights * (image & ~sinks)
            non_sink_ratio = non_sinks.sum(dim=-1) / image_mass
            if self.preset == "paper":
                is_chosen = non_sink_ratio >= self._rho
            else:
                sink_mass = weights[..., image & sinks].sum(dim=-1)
                is_chosen = (sink_mass / image_mass <= self._rho) & (sink_mass > 0)
            is_chosen &= is_after & (image_mass >= self.image_mass) & (non_sink_ratio > 0)
            taken = self._moved * weights * sinks
            shares = non_sinks / non_sinks.sum(dim=-1, keepdim=True)
            new = weights - taken + taken.sum(dim=-1, keepdim=True) * shares
            edited[row] = torch.where(is_chosen.unsqueeze(-1), new, weights)
        return edited

    @property
    def _moved(self) -> float:
        """Share of the sinks' attention that moves."""
        return self.p if self.preset == "paper" else 1 - self.p

    @property
    def _rho(self) -> float:
        """`rho`, or the default of the preset."""
        if self.rho is not None:
            return self.rho
        return _PAPER_RHO[self.task or "general"] if self.preset == "paper" else _REPO_RHO

    def _tau(self, width: int) -> float:
        return reachable(self.tau, self.tau_rel, width)

    def _is_sink(self, hidden: Tensor) -> Tensor:
        assert isinstance(self.sink_dims, list), "bound first"
        value, tau = sink_value(hidden, self.sink_dims), self._tau(hidden.shape[-1])
        return value >= tau if self.preset == "paper" else value > tau

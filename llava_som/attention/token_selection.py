"""FastV-style selection (arXiv 2403.06764, section 4) in any decoder: after layer K some image tokens get no attention.

The last token of the prompt ranks them by its attention in layer K, mean over heads, as pruning=fastv does; ranking and
budget are that pruner's. Here tokens are masked, which shows what a model makes of fewer of them but saves no time: a
prompt takes longer than without. pruning=fastv really shortens the sequence, in our own models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import KeyGroups
from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.prompt import NEVER
from llava_som.attention.sinks import resolved_dims, sink_value
from llava_som.config_file import option
from llava_som.pruning.base import check_share, keep_top, tokens_to_keep
from llava_som.pruning.decoder_attention import AttentionRow

_ROUNDING = 1e-5  # of a sum of weights


@INTERVENTIONS.register("token_selection")
@dataclass(frozen=True, kw_only=True)
class TokenSelection(KeyGroups):
    """Masks the image tokens that the end of the prompt attends to least.

    The choice is made in the call that reads the image, by that call's last token, and holds from then on: for the
    answer, further turns and beams. Of a prompt read in chunks, each chunk's image tokens are ranked by its last token.
    """

    paper: ClassVar[str] = (
        "Chen et al., An Image is Worth 1/2 Tokens After Layer 2 (FastV), ECCV 2024, arXiv 2403.06764"
    )
    needs_image: ClassVar[bool] = True
    groups: ClassVar[tuple[str, ...]] = ("rest", "masked")

    layer: int = option(2, help="how many of the decoder's layers see all image tokens (K)")
    keep_ratio: float = option(0.5, help="share of the image tokens that stay, 1 - R of the paper")
    min_tokens: int = option(16, help="a prompt keeps at least so many of its image tokens")
    sinks: Literal["as_others", "first_to_go"] = option(
        "as_others", help="sinks rank high by attention though they say little: first_to_go puts them last"
    )
    sink_dims: list[int] | Literal["auto"] | None = option(
        None, help="of first_to_go: sink dimensions of the decoder; by default from a table, auto finds them"
    )
    tau: float = option(20.0, help="of first_to_go: a token is a sink from this value in a sink dimension on")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("keep_ratio", self.keep_ratio)
        if self.min_tokens < 1:
            raise ValueError(f"min_tokens={self.min_tokens}: must be at least 1.")
        if self.sinks not in ("as_others", "first_to_go"):
            raise ValueError(f"sinks={self.sinks!r}: allowed are as_others and first_to_go.")

    def bound(self, decoder: DecoderLayers) -> TokenSelection:
        """With the sink dimensions of this decoder, where they matter."""
        depth = len(decoder.modules)
        if not 0 < self.layer < depth:
            raise ValueError(f"layer={self.layer}: this decoder has {depth} layers; allowed are 1 to {depth - 1}.")
        if self.sinks == "as_others":
            return self
        return replace(self, sink_dims=resolved_dims(self.sink_dims, decoder, self.tau))

    def default_layers(self, depth: int) -> Sequence[int]:
        """All from layer K on, counted from 0."""
        return range(self.layer, depth)

    def layers_of(self, depth: int) -> list[int]:
        """With the one before them, whose attention ranks."""
        chosen = super().layers_of(depth)
        if early := [number for number in chosen if number < self.layer]:
            raise ValueError(
                f"layers={early}: the first {self.layer} layers see all image tokens; see the option layer."
            )
        return [self._ranking, *chosen]

    def idle_reason(self, had_image: bool) -> str:
        """Why nothing may have changed."""
        if not had_image:
            return super().idle_reason(had_image)
        return (
            f"no prompt has more image tokens than it keeps, keep_ratio={self.keep_ratio} of them and {self.min_tokens}"
        )

    def first_row(self, call: LayerCall) -> Tensor:
        """All rows of later layers; tokens that are masked for others read a shorter sequence as well."""
        first = call.tokens.first
        return torch.full_like(first, NEVER) if call.layer == self._ranking else first

    def labels(self, call: LayerCall) -> Tensor:
        """The masked tokens; they are chosen in the layer that ranks, where none is masked yet."""
        if call.layer != self._ranking:
            return call.prompt.found[self._ranking, "masked"]
        is_image = call.tokens.is_image[:, call.past :].to(call.query.device)
        masked = torch.zeros_like(is_image, dtype=torch.uint8)
        if is_image.shape[1] > 1:
            masked = self._masked(self._row(call), call.hidden, is_image).to(torch.uint8)
        return torch.zeros_like(call.remember("masked", masked))

    def coefficients(self, mass_HRG: Tensor) -> Tensor:
        """Softmax over what is left; a row that sees only masked tokens stays, being one of theirs."""
        rest, masked = mass_HRG.unbind(dim=-1)
        left = rest + _without_key(rest + masked)
        growth = 1 / left.clamp(min=torch.finfo(left.dtype).tiny)
        return torch.stack([growth, (left <= 0).to(growth.dtype)], dim=-1)

    def reweight(
        self,
        attention: Tensor,
        hidden: Tensor,
        is_image: Tensor,
        *,
        observed: Tensor | None = None,
        layer: int = 0,
        memory: dict[str, Any] | None = None,
    ) -> Tensor:
        """Weights without the masked columns, normalised again; the layer that ranks leaves its choice in `memory`."""
        assert memory is not None, "the choice of one layer is used in others"
        observed = attention if observed is None else observed
        if layer == self._ranking:
            is_token = (observed > 0).any(dim=2).any(dim=1)
            last = observed.shape[2] - 1 - is_token.flip(1).int().argmax(dim=1)
            row = observed[torch.arange(len(observed)), :, last].mean(dim=1)
            memory["masked"] = self._masked(row, hidden, is_image)
            return attention
        kept = attention.masked_fill(memory["masked"][:, None, None], 0.0)
        left = kept.sum(dim=-1, keepdim=True) + _without_key(attention.sum(dim=-1, keepdim=True))
        return torch.where(left > 0, kept / left, attention)

    @property
    def _ranking(self) -> int:
        return self.layer - 1

    def _row(self, call: LayerCall) -> Tensor:
        """How the last token attends to the call's tokens, `[B, Q]`."""
        past = call.past - call.offset
        last = (call.tokens.last - call.offset).to(call.query.device)
        row = AttentionRow(last, call.of_keys(call.tokens.is_token), past)
        row.fill(call.query, call.key, call.options)
        assert row.weights is not None
        return row.weights[:, past:]

    def _masked(self, row: Tensor, hidden: Tensor, is_image: Tensor) -> Tensor:
        """Which image tokens go, bool `[B, Q]`, by how the last token attends."""
        scores = row.masked_fill(~is_image, -2.0)
        if self.sinks == "first_to_go":
            assert isinstance(self.sink_dims, list), "bound first"
            scores = scores - (is_image & (sink_value(hidden, self.sink_dims) >= self.tau)).to(scores)
        counts = [tokens_to_keep(self.keep_ratio, count, self.min_tokens) for count in is_image.sum(dim=1).tolist()]
        return is_image & ~keep_top(scores, torch.tensor(counts, device=scores.device))


def _without_key(total: Tensor) -> Tensor:
    """What no key gets of rows that sum to `total` (the sink logit of gpt-oss), and not what rounding leaves."""
    spare = 1 - total
    return torch.where(spare > _ROUNDING, spare, 0.0)

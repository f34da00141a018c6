"""OPERA-lite, after OPERA (Huang et al., CVPR 2024, arXiv 2311.17911): the over-trust penalty without going back.

When many tokens in a row look at one earlier token of the answer, the answer has begun to follow a summary of itself
instead of the picture. Candidates of each step are tried out, and those that deepen such a column are marked down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import Intervention, RowFunction
from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.prompt import NEVER, prompt_of
from llava_som.attention.second_stream import SecondStream, generation_settings, stream_inputs, with_mass_of
from llava_som.attention.session import Session, session_on
from llava_som.config_file import option

_UNIT = 1e-7  # of a product of a column, as in the released code
_MOST = 1e4  # of a penalty; columns that are worse are all the same


@INTERVENTIONS.register("opera")
@dataclass(frozen=True, kw_only=True)
class OPERALite(Intervention):
    """Marks down candidates whose attention piles up on one token of the answer.

    With w the last layer's attention, maximum over heads, rows made to sum to one, a candidate loses
    `weight * 1e-7 * max_j prod_(i >= j) (scale * w_ij)` over the answer so far; in the first tokens, where there are no
    columns yet, it gains `weight` times its attention to the image. Nothing but candidates is said.

    It differs from the published method: no rollback when one column stays the worst; greedy search and sampling work,
    and batches, not only beams of one prompt; all candidates go through the model in one call, in a second stream of
    `candidates` rows for each beam (the first reading of the prompt is done twice), and only the last layer's new rows
    are computed as weights. Other interventions edit that stream as well, so their tables count its rows.
    """

    paper: ClassVar[str] = "Huang et al., OPERA: Alleviating Hallucination via Over-Trust Penalty, CVPR 2024"
    edits_attention: ClassVar[bool] = False

    candidates: int = option(5, help="how many tokens of each step are tried out (N_can); at least the number of beams")
    weight: float = option(1.0, help="of the penalty; 0 switches it off")
    scale: float = option(50.0, help="what attention is multiplied by before columns are multiplied (sigma)")
    first: int = option(10, help="tokens of the answer that attention to the image counts for instead")
    window: int = option(512, help="tokens of the answer, from its end, whose columns count")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 2:
            raise ValueError(f"candidates={self.candidates}: must be at least 2, or there is nothing to choose from.")
        if self.weight < 0 or self.scale <= 0:
            raise ValueError(f"weight={self.weight}, scale={self.scale}: must be at least 0, and above 0.")
        if self.first < 0 or self.window < 1:
            raise ValueError(f"first={self.first}, window={self.window}: must be at least 0, and at least 1.")

    def processor(self, model: Any, inputs: Mapping[str, Any]) -> LogitsProcessor | None:
        """The penalty.

        Raises:
            ValueError: fewer candidates than beams, or what a second stream cannot follow.
        """
        if not self.weight:
            return None
        beams = generation_settings(model, inputs).get("num_beams", 1)
        if beams > self.candidates:
            raise ValueError(
                f"num_beams={beams}: OPERA-lite tries out {self.candidates} candidates, too few to go on with so many "
                f"beams. Set candidates={beams} or more, or use fewer beams."
            )
        given = stream_inputs(self.name, model, inputs)
        session = session_on(model)
        assert session is not None
        last = len(DecoderLayers.of(model).modules) - 1
        stream = SecondStream(model, given, partial(_watched, session, _Columns(layers=[last], scale=self.scale)))
        return _Penalty(self, stream, last)


class _Penalty(LogitsProcessor):
    def __init__(self, method: OPERALite, stream: SecondStream, layer: int) -> None:
        self._method, self._stream, self._layer = method, stream, layer
        self._batch = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Scores `[B, V]` of the tokens after `input_ids`, `[B, L]`; -inf of all but the candidates."""
        best, candidates = scores.topk(min(self._method.candidates, scores.shape[1]), dim=-1)
        self._stream.try_out(input_ids, candidates)
        penalty = self.penalty(input_ids.shape[1] + 1 - self._stream.prompt_length)
        best = best - self._method.weight * penalty.view_as(best).to(best)
        return with_mass_of(scores, torch.full_like(scores, -torch.inf).scatter(1, candidates, best))

    def penalty(self, length: int) -> Tensor:
        """Of each row of the stream, `[R]`, where the answer with the candidate has `length` tokens; section 3.2."""
        prompt = prompt_of(self._stream.cache)
        assert prompt is not None
        if length <= self._method.first:
            row = prompt.found[self._layer, "strongest"]
            return -(row * prompt.tokens.is_image.to(row.device)).sum(dim=-1)
        columns = prompt.found[self._layer, "over-trust"][:, -min(length, self._method.window) :]
        return (columns.amax(dim=-1) + math.log(_UNIT)).clamp(max=math.log(_MOST)).exp()


@dataclass(frozen=True, kw_only=True)
class _Columns(RowFunction):
    """Adds up the logarithms of the answer's columns of attention, beside the cache, and changes nothing."""

    paper: ClassVar[str] = OPERALite.paper
    only_looks: ClassVar[bool] = True

    scale: float

    def first_row(self, call: LayerCall) -> Tensor:
        """The answer; prompts are left alone."""
        return torch.full((len(call.query),), 0 if call.past else NEVER, device=call.query.device)

    def rewrite(self, weights: Tensor, scores: Tensor, call: LayerCall, rows: slice) -> Tensor:
        """The weights, `[B, H, 1, K]`, as they are, after a look at them."""
        if not call.past:
            return weights
        row = weights[:, :, -1].amax(dim=1).float()
        row = nn.functional.pad(row / row.sum(dim=-1, keepdim=True), (call.offset, 0))
        is_first = (call.layer, "over-trust") not in call.prompt.found
        whole = (self.scale * row).log()
        if is_first:
            whole[:, : call.past] = -torch.inf  # the prompt's columns do not count
        call.add_up("over-trust", whole)
        call.put("strongest", row)
        return weights


@contextmanager
def _watched(session: Session, columns: _Columns) -> Iterator[None]:
    run = session.add(columns)
    try:
        yield
    finally:
        session.discard(run)

"""What a running decoder attends to: rows of weights at the image's keys, recorded while it runs.

Fused kernels return no weights, and a model that returns them stores a matrix of T x T for each layer. Here the rows
after the image are computed a block at a time, behind whatever interventions are on the model, and only their columns
of image features are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from llava_som.attention.base import Intervention, RowFunction
from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.sinks import sink_value


@dataclass(frozen=True)
class SinkRule:
    """Which tokens are sinks, by their massive activations (VAR, Section 3.1).

    Attributes:
        dims: sink dimensions of the decoder.
        tau: the value from which on a token is one.
    """

    dims: Sequence[int]
    tau: float

    def __call__(self, hidden: Tensor) -> Tensor:
        """Bool `[B, L]` of the input of a layer, `[B, L, D]`."""
        return sink_value(hidden, self.dims) >= self.tau


@dataclass
class AttentionRecord:
    """Rows of attention of one prompt: its last tokens, and those generated after it.

    Attributes:
        by_head: whether heads are kept apart.
        first: position of the first row; None until one is recorded.
        weights: by layer, float32 `[R, N]` on the CPU, mean over heads, or `[H, R, N]`. N counts the image features
            in the prompt; the rest of a row's attention is on text.
        is_sink: by layer, which image features are sinks, bool `[N]`; empty without a rule.
    """

    by_head: bool = False
    first: int | None = None
    weights: dict[int, Tensor] = field(default_factory=dict)
    is_sink: dict[int, Tensor] = field(default_factory=dict)

    def mean(self, layers: Sequence[int]) -> Tensor:
        """Weights, mean over some layers.

        Raises:
            ValueError: layers without weights: they were not recorded, or have none (linear attention).
        """
        missing = [number for number in layers if number not in self.weights]
        if missing or not layers:
            have = ", ".join(map(str, sorted(self.weights))) or "none: was there an image in the prompt?"
            raise ValueError(f"layers={missing}: no attention was recorded there. Recorded are {have}.")
        return torch.stack([self.weights[number] for number in layers]).mean(dim=0)

    def add(self, layer: int, start: int, rows: Tensor) -> None:
        """Add rows `[R, N]` or `[H, R, N]` of a layer, the first at position `start`."""
        if self.first is None:
            self.first = start
        before = self.weights.get(layer)
        if before is None:
            self.weights[layer] = rows
            return
        expected = self.first + before.shape[-2]
        if start != expected:
            raise ValueError(
                f"Layer {layer} is at token {start}, the record at {expected}. A record is of one prompt and what is "
                "generated after it, read once: no beams, no second prompt. Use a new one."
            )
        self.weights[layer] = torch.cat([before, rows], dim=-2)


@contextmanager
def record_attention(
    model: Any,
    *,
    layers: list[int] | None = None,
    intervention: Intervention | None = None,
    sinks: SinkRule | None = None,
    by_head: bool = False,
) -> Iterator[AttentionRecord]:
    """Within, the attention of all tokens after the last image feature is recorded, of one prompt.

        with record_attention(model) as record:
            model.generate(**inputs)
        record.mean([10, 11, 12])

    Args:
        model: a causal language model of transformers that reads images, in eval mode.
        layers: numbers of the layers; by default all.
        intervention: what edits the model meanwhile; the rows are those that it leaves.
        sinks: also record which image features are sinks.
        by_head: keep heads apart.

    Raises:
        ValueError: what `Intervention.on` refuses, several prompts at once, or another prompt in the same block.
    """
    record = AttentionRecord(by_head)
    with ExitStack() as blocks:
        if intervention is not None:
            blocks.enter_context(intervention.on(model))
        blocks.enter_context(_Recorder(layers=layers, record=record, sinks=sinks).on(model))
        yield record


@dataclass(frozen=True, kw_only=True)
class _Recorder(RowFunction):
    """Rows are read and left as they are."""

    paper: ClassVar[str] = "no method: it only looks"
    needs_image: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    record: AttentionRecord = field(default_factory=AttentionRecord, compare=False)
    sinks: SinkRule | None = field(default=None, compare=False)

    def bound(self, decoder: DecoderLayers) -> _Recorder:
        """Itself; every decoder fits."""
        return self

    def first_row(self, call: LayerCall) -> Tensor:
        """The query after the last image feature."""
        if len(call.query) > 1:
            raise ValueError(f"A batch of {len(call.query)} prompts: attention is recorded of one prompt at a time.")
        if call.past == 0 and call.layer in self.record.weights:
            raise ValueError("A second prompt: a record is of one prompt and what follows it. Use a new block.")
        self._look_for_sinks(call)
        return call.tokens.image_end

    def rewrite(self, weights: Tensor, scores: Tensor, call: LayerCall, rows: slice) -> Tensor:
        """The weights as they are, after a look at them."""
        start = max(int(call.tokens.image_end), call.past + rows.start)
        wanted = weights[0, :, start - call.past - rows.start :].float()
        if wanted.shape[1]:
            self.record.add(call.layer, start, self._at_image(wanted, call))
        return weights

    def _at_image(self, wanted_HRK: Tensor, call: LayerCall) -> Tensor:
        """The columns of image features; 0 where a sliding cache has dropped the key."""
        columns = call.tokens.is_image[0].nonzero().flatten().to(wanted_HRK.device) - call.offset
        is_held = (columns >= 0) & (columns < wanted_HRK.shape[-1])
        if not self.record.by_head:
            wanted_HRK = wanted_HRK.mean(dim=0)
        found = wanted_HRK.new_zeros(*wanted_HRK.shape[:-1], len(columns))
        found[..., is_held] = wanted_HRK[..., columns[is_held]]
        return found.cpu()

    def _look_for_sinks(self, call: LayerCall) -> None:
        if self.sinks is None or call.hidden.shape[1] == 1:
            return
        is_sink = call.remember("recorded sink", self.sinks(call.hidden))[0]
        self.record.is_sink[call.layer] = is_sink[call.tokens.is_image[0].to(is_sink.device)].cpu()

"""Sink dimensions of a decoder that nobody has published, found by running it on a short prompt.

The first token of any prompt is a sink (arXiv 2309.17453), and what makes it one is a few outsized dimensions (arXiv
2402.17762). Attention is the check: tokens that are outsized there must be those that later tokens attend to most.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from warnings import warn
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.prompt import Prompt, Tokens
from llava_som.attention.reroute import Reroute
from llava_som.attention.session import session_on
from llava_som.attention.sinks import reachable, sink_value

_LENGTH = 64  # tokens of the prompt that is made up
_LEAST_LENGTH = 8
_MOST_DIMS = 4
_ATTENDED = 5.0  # times an even share, 1 / N, is much attention; ACT's alpha
_POOR = 0.5  # precision or recall below which sink_dims=auto warns


@dataclass(frozen=True)
class LayerSinks:
    """Sinks of one layer among the tokens of the prompt's first half.

    Attributes:
        layer: its number.
        peak: the first token's value, the largest of the sink dimensions.
        sinks: tokens that reach tau.
        attended: tokens to which those of the second half give more than 5 / N of their attention, mean over heads.
        both: tokens that are both.
    """

    layer: int
    peak: float
    sinks: int
    attended: int
    both: int


@dataclass(frozen=True)
class SinkReport:
    """Sink dimensions of a decoder, and how well they tell which tokens are attended to.

    Attributes:
        dims: the dimensions, at most 4.
        tau: what the first token exceeds in them, in at least half of the layers.
        by_layer: layers 2 to L - 2 of L, where sinks are; all of a decoder that has fewer than 4.
    """

    dims: tuple[int, ...]
    tau: float
    by_layer: tuple[LayerSinks, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers in which the first token reaches tau."""
        return tuple(found.layer for found in self.by_layer if found.peak >= self.tau)

    @property
    def precision(self) -> float:
        """Share of the tokens that reach tau which are attended to; each layer's tokens count."""
        return _share(sum(found.both for found in self.by_layer), sum(found.sinks for found in self.by_layer))

    @property
    def recall(self) -> float:
        """Share of the tokens that are attended to which reach tau; 0 where no token is."""
        return _share(sum(found.both for found in self.by_layer), sum(found.attended for found in self.by_layer))

    def table(self) -> str:
        """Lines of text: the totals, then a line for each layer."""
        lines = [
            f"sink dimensions {', '.join(map(str, self.dims))} at tau={self.tau:.1f}: "
            f"precision {self.precision:.0%}, recall {self.recall:.0%}",
            "layer  first token  sinks  attended  both",
        ]
        for found in self.by_layer:
            lines.append(f"{found.layer:5}  {found.peak:11.1f}  {found.sinks:5}  {found.attended:8}  {found.both:4}")
        return "\n".join(lines)


@torch.no_grad()
def discover(
    model: Any, input_ids: Tensor | None = None, tau: float = 20.0, tau_rel: float | None = None
) -> SinkReport:
    """Find the sink dimensions of a decoder, and check them against its attention.

    Args:
        model: a causal language model of transformers, with or without a vision encoder, in eval mode.
        input_ids: a prompt of text, `[1, T]` or `[T]`, as the tokenizer makes it; by default tokens from the middle of
            the vocabulary after the one that begins a text.
        tau: least value in a sink dimension, over the root mean square of all.
        tau_rel: instead of tau, a share of the largest possible value, sqrt(D).

    Returns:
        The dimensions, with precision and recall.

    Raises:
        ValueError: no such dimension, or a model, a prompt or a threshold that it cannot work with.
    """
    decoder = DecoderLayers.of(model)
    if decoder.model.training:
        raise ValueError("The model is in training mode, in which hidden states are noisy: call model.eval() first.")
    tau = reachable(tau, tau_rel, decoder.width)
    ids = _made_up(decoder) if input_ids is None else _checked(input_ids, decoder)
    ids = ids.to(decoder.decoder.get_input_embeddings().weight.device)
    depth = len(decoder.modules)
    layers = range(2, depth - 1) or range(depth)
    with _without_interventions(model):
        values = _first_token(decoder, layers, ids)
        dims = _outsized(values, tau)
        if not dims:
            raise ValueError(_nothing_found(values, tau, layers))
        return SinkReport(tuple(dims), tau, _compared(decoder, layers, ids, dims, tau))


def discovered_dims(model: nn.Module, tau: float) -> list[int]:
    """What `discover` finds, looked for once for given weights; warns where attention does not bear it out."""
    state = tau, tuple((weight.data_ptr(), _version(weight)) for weight in model.parameters())
    known = _known.get(model)
    if known is None or known[0] != state:
        report = discover(model, tau=tau)
        if min(report.precision, report.recall) < _POOR:
            warn(
                f"sink_dims=auto found {list(report.dims)}, but the tokens that reach tau there are not those that are "
                f"attended to most (precision {report.precision:.0%}, recall {report.recall:.0%}). Look at "
                "llava_som.attention.discovery.discover(model).table(), and try another tau.",
                UserWarning,
                stacklevel=2,
            )
        known = _known[model] = state, report.dims
    return list(known[1])


_known: WeakKeyDictionary[nn.Module, tuple[Any, tuple[int, ...]]] = WeakKeyDictionary()


def _version(weight: Tensor) -> int:
    """Counts changes in place; tensors made under inference_mode do not have it and cannot change."""
    return 0 if weight.is_inference() else weight._version


def _made_up(decoder: DecoderLayers) -> Tensor:
    """A prompt that is no text but begins as one: ids between a tenth and six tenths of the vocabulary.

    Bytes and control tokens are before these, added tokens after them. `[1, T]`.
    """
    config = decoder.config
    special = _special(config) | _special(decoder.model.config) | decoder.image_tokens()
    low, span = config.vocab_size // 10, max(1, config.vocab_size // 2)
    ordinary = (low + number * 7919 % span for number in range(2 * _LENGTH))
    ids = [number for number in ordinary if number not in special]
    begin = getattr(config, "bos_token_id", None)
    begins = [begin] if isinstance(begin, int) and 0 <= begin < config.vocab_size else []
    return torch.tensor([(begins + ids)[:_LENGTH]])


def _special(config: Any) -> set[int]:
    """Ids that a config names: those that begin, end or pad a text, and placeholders."""
    named = [value for name, value in config.to_dict().items() if name.endswith(("_token_id", "_token_index"))]
    return {number for value in named for number in (value if isinstance(value, list) else [value])} - {None}


def _checked(input_ids: Tensor, decoder: DecoderLayers) -> Tensor:
    ids = input_ids.unsqueeze(0) if input_ids.ndim == 1 else input_ids
    if ids.ndim != 2 or len(ids) != 1 or ids.shape[1] < _LEAST_LENGTH:
        raise ValueError(
            f"input_ids of shape {list(input_ids.shape)}: give one prompt without padding, [1, T], of at least "
            f"{_LEAST_LENGTH} tokens."
        )
    if found := decoder.image_tokens() & set(ids.flatten().tolist()):
        raise ValueError(f"input_ids hold image placeholders ({min(found)}): give a prompt of text alone.")
    return ids


def _without_interventions(model: Any) -> AbstractContextManager[None]:
    session = session_on(model)
    return nullcontext() if session is None else session.paused()


def _first_token(decoder: DecoderLayers, layers: Sequence[int], ids: Tensor) -> Tensor:
    """Each dimension of the first token over the root mean square of all, in what layers read, `[layers, D]`."""
    values: list[Tensor] = []

    def before(_layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = _hidden(args, named)[0, 0].float()
        values.append((hidden.abs() / hidden.square().mean().sqrt()).cpu())

    with ExitStack() as undo:
        for number in layers:
            undo.callback(decoder.modules[number].register_forward_pre_hook(before, with_kwargs=True).remove)
        decoder.model(input_ids=ids, use_cache=False)
    return torch.stack(values)


def _outsized(values: Tensor, tau: float) -> list[int]:
    """Dimensions above tau in at least half of the layers; of more than 4 the largest."""
    is_often = 2 * (values > tau).sum(dim=0) >= len(values)
    strength = torch.where(is_often, values.mean(dim=0), 0.0)
    return sorted(strength.topk(min(_MOST_DIMS, int(is_often.sum()))).indices.tolist())


def _nothing_found(values: Tensor, tau: float, layers: Sequence[int]) -> str:
    width = values.shape[1]
    reached = values.sort(dim=0, descending=True).values[(len(values) - 1) // 2]  # in at least half of the layers
    most, dim = reached.max(dim=0)
    share = int(100 * most / width**0.5) / 100
    return (
        f"No dimension of the first token is above tau={tau:.1f} in at least half of layers {layers[0]} to "
        f"{layers[-1]}. The largest is dimension {int(dim)} with {most:.1f}; the most possible is sqrt({width}) = "
        f"{width**0.5:.1f}. Try tau_rel={share:.2f}, which finds it, and see whether precision and recall bear it out; "
        "or give input_ids from the model's own tokenizer. Random weights have no sinks."
    )


def _compared(
    decoder: DecoderLayers, layers: Sequence[int], ids: Tensor, dims: list[int], tau: float
) -> tuple[LayerSinks, ...]:
    """Sinks and most-attended tokens of each layer."""
    watches = [_Watch(number, dims, tau) for number in layers]
    with ExitStack() as undo:
        for watch in watches:
            layer = decoder.modules[watch.number]
            undo.callback(watch.reroute.remove)
            watch.reroute.install(layer)
            undo.callback(layer.register_forward_pre_hook(watch.before, with_kwargs=True).remove)
        decoder.model(input_ids=ids, use_cache=False)
    return tuple(watch.result() for watch in watches)


class _Watch:
    """One layer, from its input to its attention."""

    def __init__(self, number: int, dims: list[int], tau: float) -> None:
        self.number = number
        self.dims = dims
        self.tau = tau
        self.reroute = Reroute(self._attend)

    def before(self, _layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.values = sink_value(_hidden(args, named), self.dims)[0]

    def _attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any = None, **options: Any) -> Any:
        """The tokens of the second half look at those of the first, of which each is seen equally often."""
        length = query.shape[2]
        half = length // 2
        is_token = torch.ones(1, length, dtype=torch.bool, device=query.device)
        later = LayerCall(
            layer=self.number,
            hidden=query,
            prompt=Prompt(Tokens(~is_token, is_token)),
            past=half,
            offset=0,
            query=query[:, :, half:],
            key=key,
            value=value,
            mask=mask[:, :, half:] if isinstance(mask, Tensor) and mask.ndim == 4 else mask,
            options=options,
        )
        total, seen = later.column_sums(list(range(query.shape[1])))
        self.attention = (total / seen.clamp(min=1)).mean(dim=1)[0, :half]
        return self.reroute.original(module)(module, query, key, value, mask, **options)

    def result(self) -> LayerSinks:
        """The counts; read once all layers have run, so that a device is not waited for in each."""
        half = len(self.attention)
        is_sink = self.values[:half] >= self.tau
        is_attended = self.attention > _ATTENDED / len(self.values)
        counts = [int(which.sum()) for which in (is_sink, is_attended, is_sink & is_attended)]
        return LayerSinks(self.number, float(self.values[0]), *counts)


def _hidden(args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    return args[0] if args else named["hidden_states"]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

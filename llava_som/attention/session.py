"""Interventions on a model, from the start of a `with` block to its end.

Hooks see which tokens are images (the model's own call has the ids) and what each edited layer reads; the layer's
attention is rerouted to `attend`. Layers that no intervention edits are not touched, nor is a vision encoder.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, LogitsProcessorList

from llava_som.attention.base import Intervention
from llava_som.attention.call import as_bool
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.layer_edit import LayerEdit
from llava_som.attention.prompt import Prompt, Tokens, keep_with, prompt_of
from llava_som.attention.stats import LayerReport, Tally, as_table

_ATTRIBUTE = "_llava_som_session"
_GENERATE_ARGUMENTS = list(inspect.signature(GenerationMixin.generate).parameters)[1:]  # in their order, after self


@dataclass
class Run:
    """What the interventions of one `with` block do.

    Attributes:
        methods: the interventions, with what depends on the model filled in.
        layers: which layers each edits.
        tallies: what each did, by number of the intervention and layer.
        had_image: whether any prompt had an image.
    """

    methods: Sequence[Intervention]
    layers: Sequence[list[int]]
    tallies: dict[tuple[int, int], Tally] = field(default_factory=dict)
    had_image: bool = False

    def reports(self) -> dict[tuple[str, int], LayerReport]:
        """What was edited so far, by intervention and layer."""
        return {(self.methods[number].name, layer): tally.read() for (number, layer), tally in self.tallies.items()}

    def table(self) -> str:
        """The reports as lines of text."""
        return as_table(self.reports())

    @property
    def changed(self) -> dict[str, int]:
        """Rows of attention that were changed, by intervention."""
        totals = dict.fromkeys((method.name for method in self.methods), 0)
        for (name, _), report in self.reports().items():
            totals[name] += report.changed
        return totals

    def warn_of_idle(self) -> None:
        """Warn of interventions that changed nothing."""
        changed = self.changed
        for method in self.methods:
            if method.edits_attention and not method.only_looks and not changed[method.name]:
                warnings.warn(
                    f"{method.name} changed nothing: {method.idle_reason(self.had_image)}.", UserWarning, stacklevel=4
                )


def session_on(model: Any) -> Session | None:
    """The session of the interventions that are on a model now."""
    return getattr(DecoderLayers.of(model).decoder, _ATTRIBUTE, None)


@contextmanager
def run(intervention: Intervention, model: Any) -> Iterator[Run]:
    """See `Intervention.on`."""
    session = session_on(model)
    own = session is None
    if session is None:
        session = Session(model, DecoderLayers.of(model))
    entered = session.add(intervention)
    try:
        if own:
            session.attach()
        yield entered
    finally:
        session.discard(entered)
        if own:
            session.detach()
    if session.forwards:
        entered.warn_of_idle()


@dataclass
class _Call:
    """One call of the model.

    Attributes:
        ids: `[B, Q]`, or None where the decoder was called with embeddings.
        mask: `[B, L]` or prepared masks, or None.
        prompt: of the cache; found by the first edited layer, which sees the cache.
        is_regular: what is known about masks, by identity.
    """

    ids: Tensor | None
    mask: Any
    prompt: Prompt | None = None
    is_regular: dict[int, tuple[Any, bool]] = field(default_factory=dict)


class Session:
    """The interventions on one model."""

    def __init__(self, model: Any, layers: DecoderLayers) -> None:
        self.model = model
        self.layers = layers
        self.runs: list[Run] = []
        self.forwards = 0
        self.is_paused = False
        self._generate_before: Any = None
        self._prompt_length: int | None = None  # in a call of generate
        self._image_tokens = sorted(layers.image_tokens())
        self._call: _Call | None = None
        self._hooks: list[Any] = []
        self._edits: dict[int, LayerEdit] = {}

    def add(self, intervention: Intervention) -> Run:
        """Put an intervention on the model, after those that are on it; a ValueError where it does not fit."""
        present = {method.name for run in self.runs for method in run.methods}
        depth = len(self.layers.modules)
        for part in intervention.parts:
            if part.name in present:
                raise ValueError(
                    f"{part.name} is on this model already. Leave its with block before you use it again; different "
                    "interventions may be nested."
                )
        _check_model(self.layers)
        methods = [part.bound(self.layers) for part in intervention.parts]
        chosen = [method.layers_of(depth) if method.edits_attention else [] for method in methods]
        entered = Run(methods, chosen)
        self.runs.append(entered)
        self._install()
        return entered

    def discard(self, run: Run) -> None:
        """Take an intervention off."""
        self.runs.remove(run)
        self._install()

    def attach(self) -> None:
        """Watch calls of the model."""
        setattr(self.layers.decoder, _ATTRIBUTE, self)
        for module in dict.fromkeys((self.model, self.layers.model)):
            self._hooks.append(module.register_forward_pre_hook(self._before_model, with_kwargs=True))
        self._hooks.append(self.layers.decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True))
        if hasattr(self.model, "generate"):
            self._generate_before = vars(self.model).get("generate")
            self.model.generate = partial(self._generate, self.model.generate)  # found before the class's own

    def detach(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        vars(self.model).pop("generate", None)
        if self._generate_before is not None:
            self.model.generate = self._generate_before
        if hasattr(self.layers.decoder, _ATTRIBUTE):
            delattr(self.layers.decoder, _ATTRIBUTE)

    def methods_at(self, layer: int, prompt: Prompt) -> list[tuple[Intervention, Tally]]:
        """The interventions that edit a layer for this prompt, in order, and where they are counted."""
        if self.is_paused:
            return []
        return [
            (method, run.tallies.setdefault((number, layer), Tally()))
            for run in self.runs
            for number, (method, layers) in enumerate(zip(run.methods, run.layers, strict=True))
            if layer in layers and (prompt.has_image or not method.needs_image)
        ]

    def prompt_for(self, cached: Any, layer: int, hidden: Tensor) -> tuple[Prompt, int]:
        """What is known of the tokens in this call, and how many of them the cache of a layer holds."""
        call = self._call
        assert call is not None, "a layer without its decoder"
        past = 0 if cached is None else int(cached.get_seq_length(layer))
        if call.prompt is None:
            call.prompt = self._read(call, cached, past, hidden)
        return call.prompt, past

    def _read(self, call: _Call, cached: Any, past: int, hidden: Tensor) -> Prompt:
        (batch, length, _), device = hidden.shape, hidden.device
        prompt = None if past == 0 else prompt_of(cached)
        if past and prompt is None:
            raise ValueError(
                f"The cache holds {past} tokens that were read outside of this with block, so it is not known which of "
                "them are images. Read the prompt within the block, or give the whole conversation without a cache."
            )
        is_image = self._is_image(call.ids, batch, length, device)
        is_token = _tokens_of(call.mask, batch, past + length, device)
        if prompt is None:
            prompt = Prompt(Tokens(is_image, is_token))
            if cached is not None:
                keep_with(cached, prompt)
        else:
            prompt.read(past, is_image, is_token)
        prompt.answer = self._prompt_length
        if length > 1:
            prompt.has_image = bool(prompt.tokens.is_image.any())
        for run in self.runs:
            run.had_image |= prompt.has_image
        return prompt

    def _is_image(self, ids: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor:
        if ids is None:
            if self._image_tokens and length > 1:
                raise ValueError(
                    "The model was called with inputs_embeds, which do not tell where images are. Give input_ids."
                )
            return torch.zeros(batch, length, dtype=torch.bool, device=device)
        if ids.shape[1] != length:
            raise ValueError(
                f"The model was called with {ids.shape[1]} tokens, its decoder with {length}: pruning shortened the "
                "prompt on the way. Use generate(), which shortens it before, or pruning=none."
            )
        known = torch.tensor(self._image_tokens, device=ids.device, dtype=ids.dtype)
        return torch.isin(ids, known).to(device)

    def is_regular(self, mask: Any, tokens: Tokens, past: int, length: int) -> bool:
        """Whether a mask lets every token see exactly the tokens before it; asked once for each mask of a call."""
        if mask is None or (isinstance(mask, Tensor) and mask.ndim == 2):
            return True
        if not isinstance(mask, Tensor):
            return False
        assert self._call is not None
        known = self._call.is_regular.get(id(mask))
        if known is None:
            known = mask, _is_causal(mask, tokens, past, length)  # keeps the mask alive, and so its id
            self._call.is_regular[id(mask)] = known
        return known[1]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, attention is the model's own: for a second stream that is not to be edited."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before

    def _generate(self, generate: Any, *args: Any, **named: Any) -> Any:
        """The model's `generate`, with the logits processors of the interventions after those that were given."""
        named |= dict(zip(_GENERATE_ARGUMENTS, args, strict=False))
        given = named if named.get("inputs") is None else {**named, "input_ids": named["inputs"]}
        found = [method.processor(self.model, given) for run in self.runs for method in run.methods]
        added = [processor for processor in found if processor is not None]
        if added:
            named["logits_processor"] = LogitsProcessorList([*(named.get("logits_processor") or ()), *added])
        ids = given.get("input_ids")
        before, self._prompt_length = self._prompt_length, None if ids is None else ids.shape[1]
        try:
            return generate(**named)
        finally:
            self._prompt_length = before

    def _install(self) -> None:
        """Edit the layers that any intervention wants, and no others."""
        wanted = {layer for run in self.runs for layers in run.layers for layer in layers}
        for layer in self._edits.keys() - wanted:
            self._edits.pop(layer).remove()
        for layer in sorted(wanted - self._edits.keys()):
            self._edits[layer] = LayerEdit(self, layer, self.layers.modules[layer])

    def _before_model(self, _model: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named.get("input_ids", args[0] if args and isinstance(args[0], Tensor) else None)
        self._call = _Call(ids, named.get("attention_mask"))

    def _before_decoder(self, decoder: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.forwards += 1
        ids = named.get("input_ids", args[0] if args and isinstance(args[0], Tensor) else None)
        if self._call is None or self._call.prompt is not None:  # called by itself, not by the model
            self._call = _Call(ids, None)
        if (mask := named.get("attention_mask")) is not None:
            self._call.mask = mask


def _check_model(layers: DecoderLayers) -> None:
    from llava_som.pruning.in_decoder import DecoderPruner

    if isinstance(getattr(layers.model, "pruner", None), DecoderPruner):
        raise ValueError(
            f"{type(layers.model.pruner).__name__} drops tokens between the decoder's layers, which interventions "
            "cannot follow. Use pruning=none, or a pruner that works before the decoder."
        )
    if layers.model.training:
        raise ValueError("The model is in training mode. Interventions are for inference: call model.eval() first.")


def _tokens_of(mask: Any, batch: int, length: int, device: torch.device) -> Tensor:
    """Which of the tokens so far are no padding, bool `[B, L]`."""
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values())))
    if not isinstance(mask, Tensor):
        return torch.ones(batch, length, dtype=torch.bool, device=device)
    if mask.ndim == 4:  # prepared ahead: what the last query sees
        mask = as_bool(mask[:, 0, -1, :length]).expand(batch, -1)
    return mask[:, :length].bool().to(device)


def _is_causal(mask: Tensor, tokens: Tokens, past: int, length: int) -> bool:
    seen = as_bool(mask)
    held = min(seen.shape[-1], past + length)
    if held != past + length:
        return False
    queries = torch.arange(past, past + length, device=mask.device).view(1, 1, -1, 1)
    keys = torch.arange(held, device=mask.device)
    is_token = tokens.is_token.to(mask.device)
    wanted = (keys <= queries) & is_token[:, None, None, :held]
    is_query = is_token[:, None, past : past + length, None]
    return bool(((seen[..., :held] == wanted) | ~is_query).all())  # what padding sees does not matter

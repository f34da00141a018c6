"""What an intervention did in a run, layer by layer: the proof in the report that it fired.

Counts of several ranks are added up before anything is said about them: one rank alone may have seen no image.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llava_som.attention.base import Intervention
    from llava_som.attention.session import Run
    from llava_som.attention.stats import Tally

_CACHED = "All answers came from the cache, so nothing was counted; the report of the run that made them tells."
_LOGITS = "It changes logits alone, so there is no attention to count."
_PARTLY = "Counted over {} requests; those whose answers were in the cache already are not among them."


@dataclass(frozen=True)
class LayerEffect:
    """One intervention in one layer.

    Attributes:
        layer: its number, or "all".
        looked_at: rows of attention, counted by head.
        changed: those that were changed.
        moved: sum of the attention that moved in them; a row has 1.
        found: tokens by group.
    """

    intervention: str
    layer: int | str
    looked_at: int
    changed: int
    moved: float
    found: dict[str, int]


@dataclass(frozen=True)
class Effect:
    """An intervention and what it did.

    Attributes:
        name: of the intervention, or of the sum.
        settings: all options of each intervention, what depends on the model filled in.
        requests: how many were answered under it.
        layers: in order; none where every answer came from a cache.
        notes: what the reader has to know, above all why an intervention changed nothing.
    """

    name: str
    settings: dict[str, str]
    requests: int
    layers: list[LayerEffect]
    notes: list[str]


@contextmanager
def counted(intervention: Intervention, model: Any) -> Iterator[Run]:
    """The `with` block of an intervention, in eval mode; `effect_of` says what would be a warning at its end."""
    from llava_som.inference import in_eval_mode

    with warnings.catch_warnings(), in_eval_mode(model):
        warnings.filterwarnings("ignore", message=".* changed nothing")
        with intervention.on(model) as run:
            yield run


def effect_of(run: Run, requests: int, has_cache: bool = False) -> Effect:
    """What a run did on all ranks; every rank has to call it.

    Args:
        run: of this rank.
        requests: answered by this rank within it.
        has_cache: whether there may be answers that no rank had to give.
    """
    run, requests = _of_all_ranks(run, requests)
    layers = [
        LayerEffect(name, layer, report.looked_at, report.changed, report.moved, dict(report.found))
        for (name, layer), report in sorted(run.reports().items())
    ]
    edits_attention = any(method.edits_attention for method in run.methods)
    notes = [] if edits_attention else [_LOGITS]
    notes += [_CACHED] if requests == 0 else _idle(run)
    if requests and has_cache and edits_attention:
        notes.append(_PARTLY.format(requests))
    return Effect(" + ".join(method.name for method in run.methods), _settings(run), requests, layers, notes)


def _settings(run: Run) -> dict[str, str]:
    """Every option of each part that has a value, and the layers it edits."""
    settings = {}
    for part, layers in zip(run.methods, run.layers, strict=True):
        values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        del values["layers"]
        if part.edits_attention:
            values["layers"] = _ranges(layers)
        else:
            del values["route"]
        settings[part.name] = ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    return settings


def _idle(run: Run) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.warn_of_idle()
    return [str(warning.message) for warning in caught]


def _of_all_ranks(run: Run, requests: int) -> tuple[Run, int]:
    """The run with the counts of all ranks in it."""
    import torch.distributed

    tallies = {place: tally.on_cpu() for place, tally in run.tallies.items()}
    own = (tallies, run.had_image, requests)
    if not torch.distributed.is_initialized():
        return _added(run, [own]), requests
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own)
    return _added(run, everyone), sum(count for _, _, count in everyone)


def _added(run: Run, counts: Sequence[tuple[dict[tuple[int, int], Tally], bool, int]]) -> Run:
    total = dataclasses.replace(run, tallies={}, had_image=any(had_image for _, had_image, _ in counts))
    for tallies, _, _ in counts:
        for place, tally in tallies.items():
            total.tallies.setdefault(place, type(tally)()).add(tally)
    return total


def _ranges(numbers: Sequence[int]) -> str:
    """[2, 3, 4, 7] as "2-4, 7"."""
    starts = [number for number in numbers if number - 1 not in numbers]
    stops = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, stops, strict=True)) or "none"

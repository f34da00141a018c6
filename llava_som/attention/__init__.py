"""Interventions on the attention of a running decoder. A new one is a new file here.

    with VAR().on(model):
        model.generate(**inputs)

They edit a model from outside: any decoder of transformers, its own fused kernels still running, nothing left behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llava_som.registry import Registry

if TYPE_CHECKING:
    from llava_som.attention.base import Intervention

INTERVENTIONS: Registry[type[Intervention]] = Registry("intervention", package="llava_som.attention")


def build_intervention(given: str | dict[str, Any] | list[Any] | Intervention | None) -> Intervention | None:
    """The intervention of a name, of `{"type": name, **options}`, or the sum of a list of them; None for "none".

    Raises:
        ValueError: an unknown name, option or value.
    """
    from llava_som.attention.base import Intervention, Sum
    from llava_som.config_file import parse_options

    if given is None or given == "none" or isinstance(given, Intervention):
        return None if given == "none" else given  # type: ignore[return-value]
    if isinstance(given, list):
        parts = [part for part in map(build_intervention, given) if part is not None]
        return Sum(tuple(parts)) if parts else None
    return parse_options(*INTERVENTIONS.resolve(given))

"""Pruners: fewer vision tokens without training anything. A new one is a new file here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llava_som.registry import Registry

if TYPE_CHECKING:
    from llava_som.pruning.base import Pruner

PRUNERS: Registry[type[Pruner]] = Registry("pruner", package="llava_som.pruning")


def build_pruner(given: dict[str, Any] | None) -> Pruner | None:
    """The pruner of `{"type": name, **options}`; a ValueError for an unknown name, option or value."""
    from llava_som.config_file import parse_options

    if given is None:
        return None
    if "type" not in given:
        raise ValueError(f"pruning={given!r} has no type. Name a pruner: {', '.join(PRUNERS.names())}.")
    options = {key: value for key, value in given.items() if key != "type"}
    return parse_options(PRUNERS.get(given["type"]), options)

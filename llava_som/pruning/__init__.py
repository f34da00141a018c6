"""Pruners: fewer vision tokens without training anything. A new one is a new file here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llava_som.registry import Registry

if TYPE_CHECKING:
    from llava_som.pruning.base import Pruner

PRUNERS: Registry[type[Pruner]] = Registry("pruner", package="llava_som.pruning")


def named_pruner(given: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """A pruner as `{"type": name, **options}`; None where nothing is dropped."""
    return None if given is None or given == "none" else PRUNERS.named(given)


def build_pruner(given: dict[str, Any] | None) -> Pruner | None:
    """The pruner of `{"type": name, **options}`; a ValueError for an unknown name, option or value."""
    from llava_som.config_file import parse_options

    return None if given is None else parse_options(*PRUNERS.resolve(given))

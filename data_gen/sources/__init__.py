"""Where regions come from. A source is one file here: a RegionSource dataclass whose fields are its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.sources.base import RegionSource

SOURCES: Registry[type[RegionSource]] = Registry("source", package="data_gen.sources")

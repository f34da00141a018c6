"""Where regions or pages come from. A source is one file here: a dataclass whose fields are its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.sources.base import Source

SOURCES: Registry[type[Source]] = Registry("source", package="data_gen.sources")

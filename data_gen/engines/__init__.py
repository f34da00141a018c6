"""What carries the stages of a run: the processes of one machine, or a cluster. An engine is one file here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.engines.base import Engine

ENGINES: Registry[type[Engine]] = Registry("engine", package="data_gen.engines")

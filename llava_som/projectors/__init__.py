"""Projectors: vision width to the decoder's width. A new one is a new file here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from llava_som.projectors.base import Projector

PROJECTORS: Registry[type[Projector]] = Registry("projector", package="llava_som.projectors")

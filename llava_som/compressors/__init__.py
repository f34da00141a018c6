"""Compressors: the tiles of a page to the tokens of a page. A new one is a new file here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from llava_som.compressors.base import Compressor

COMPRESSORS: Registry[type[Compressor]] = Registry("compressor", package="llava_som.compressors")

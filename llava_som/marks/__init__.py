"""Numbered marks on an image: which regions, in what order, where the number sits, how it looks, what is remembered.

`mark_image(image, regions)` is the whole path in one call; the modules below are its steps. Marks follow Set-of-Mark
prompting (arXiv 2310.11441, "mark allocation") as SoM-LLaVA uses it for training data (arXiv 2404.16375).
Names load on first use, so importing this package costs nothing.
"""
# ruff: noqa: F401

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ finds at run time, said once more for type checkers and editors
    from .marker import MarkedImage, mark_image
    from .order import Kept, Skipped, order_regions
    from .parse import ListedItem, ParsedListing, normalize_name, parse_items, parse_listing
    from .placement import Mark, place_marks
    from .presets import PALETTES, PRESETS, Preset, get_preset
    from .record import MarkRecord, sidecar_path
    from .region import Region
    from .render import fit_image, render_marks
    from .rle import Rle, decode_rle, encode_rle

_NAMES = {
    "marker": ["MarkedImage", "mark_image"],
    "order": ["Kept", "Skipped", "order_regions"],
    "parse": ["ListedItem", "ParsedListing", "normalize_name", "parse_items", "parse_listing"],
    "placement": ["Mark", "place_marks"],
    "presets": ["PALETTES", "PRESETS", "Preset", "get_preset"],
    "record": ["MarkRecord", "sidecar_path"],
    "region": ["Region"],
    "render": ["fit_image", "render_marks"],
    "rle": ["Rle", "decode_rle", "encode_rle"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)

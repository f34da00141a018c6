"""llava_som: LLaVA-style models with Set-of-Mark data, training, evaluation and inference.

Names are imported when they are first used, so `import llava_som` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "ACT": "llava_som.attention.act",
    "INTERVENTIONS": "llava_som.attention",
    "LlavaSomConfig": "llava_som.auto",
    "LlavaSomForConditionalGeneration": "llava_som.auto",
    "LlavaSomProcessor": "llava_som.auto",
    "Region": "llava_som.marks",
    "TimmTowerConfig": "llava_som.vision.timm",
    "VAR": "llava_som.attention.var",
    "answer": "llava_som.inference",
    "build_intervention": "llava_som.attention",
    "load_assistant": "llava_som.inference",
    "mark_image": "llava_som.marks",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'llava_som' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__

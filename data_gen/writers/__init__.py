"""How output reaches the disk: every file whole or not at all, the lists rebuilt from the journal in a fixed order.

data.json, eval.jsonl, rejects.jsonl, summary.json and README.md are always written (`lists`). A further format
(`formats=`) is one file here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.writers.base import Writer

WRITERS: Registry[type[Writer]] = Registry("format", package="data_gen.writers")

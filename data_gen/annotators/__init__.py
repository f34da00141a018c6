"""Who answers a recipe's questions. An annotator is one file here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.annotators.base import Annotator

ANNOTATORS: Registry[type[Annotator]] = Registry("annotator", package="data_gen.annotators")

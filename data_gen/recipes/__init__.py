"""What is asked about marked images. A recipe is one file here; it makes a checked conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.recipes.base import Recipe

RECIPES: Registry[type[Recipe]] = Registry("recipe", package="data_gen.recipes")

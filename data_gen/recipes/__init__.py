"""What is asked about marked images or pages. A recipe is one file here; it makes checked conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_som.registry import Registry

if TYPE_CHECKING:
    from data_gen.recipes.base import AnyRecipe

RECIPES: Registry[type[AnyRecipe]] = Registry("recipe", package="data_gen.recipes")

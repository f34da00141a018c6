"""What every projector is: a module that also says how many tokens it makes of a grid, before any tensor exists."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """Maps `[N, rows * cols, D_vision]` to `[N, num_tokens(rows, cols), D_text]`.

    A subclass takes `(vision_width, text_width, **options)`; the options are those of `LlavaSomConfig.projector`, and
    the class methods take the same ones. A module that depends on the size of the grid learns it from the features:
    grids are square unless `forward` is given `grid`.
    """

    @classmethod
    def output_grid(cls, rows: int, cols: int, **options: Any) -> tuple[int, int]:
        """Rows and columns of the tokens made of a grid of patches.

        Raises:
            ValueError: the grid does not fit the options.
        """
        return rows, cols

    @classmethod
    def num_special(cls, **options: Any) -> int:
        """Tokens after those of the grid, such as a learned end of tile."""
        return 0

    @classmethod
    def num_tokens(cls, rows: int, cols: int, **options: Any) -> int:
        """Tokens made of one grid: those of `output_grid`, then the special ones."""
        out_rows, out_cols = cls.output_grid(rows, cols, **options)
        return out_rows * out_cols + cls.num_special(**options)

    def forward(self, features: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`[N, rows * cols, D_vision]` to `[N, T, D_text]`; `grid` is (rows, cols), a square when absent."""
        raise NotImplementedError

    def with_special(self, tokens: Tensor) -> Tensor:
        """Add the `num_special` tokens to those of the grid: `[N, T, D_text]` to `[N, T + special, D_text]`."""
        return tokens


class GroupedProjector(Projector):
    """A projector in which each token sees a window of patches of its own and nothing else.

    Such a projector works on any list of windows, so those that pruning drops are never computed. Subclasses say how
    large a window is and what becomes of one.

    Attributes:
        window_size: `window` at this module's options.
    """

    window_size: tuple[int, int] = (1, 1)

    @classmethod
    def window(cls, **options: Any) -> tuple[int, int]:
        """Height and width of a window in patches."""
        return 1, 1

    @classmethod
    def output_grid(cls, rows: int, cols: int, **options: Any) -> tuple[int, int]:
        """Windows in a grid of patches; a ValueError where they do not fill it."""
        return windows_in(rows, cols, *cls.window(**options))

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., height * width, D_vision]`, patches row by row, to `[..., D_text]`."""
        raise NotImplementedError

    def forward(self, features: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`[N, rows * cols, D_vision]` to `[N, T, D_text]`."""
        return self.with_special(self.project_windows(self.windows_of(features, grid)))

    def windows_of(self, features: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`[N, rows * cols, D]` to `[N, T, height * width, D]`."""
        height, width = self.window_size
        if height == width == 1:  # takes tokens that are no part of a grid too, such as a class token
            return features.unsqueeze(2)
        rows, cols = grid_of(features, grid)
        windows_in(rows, cols, height, width)
        if height == 1:  # neighbours in memory
            return features.unflatten(1, (-1, width))
        return features[:, window_index(rows, cols, height, width).to(features.device)]


@lru_cache
def window_index(rows: int, cols: int, height: int, width: int) -> Tensor:
    """Numbers of the patches in each window, `[T, height * width]`, windows and patches row by row."""
    patches = torch.arange(rows * cols).view(rows // height, height, cols // width, width)
    return patches.permute(0, 2, 1, 3).reshape(-1, height * width)


def windows_in(rows: int, cols: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the windows in a grid of patches; a ValueError where they do not fill it."""
    if rows % height or cols % width:
        raise ValueError(
            f"Windows of {height}x{width} patches do not fill the vision encoder's grid of {rows}x{cols}. Choose "
            "a window that divides it, or another image size or patch size."
        )
    return rows // height, cols // width


def square_window(factor: int, smallest: int = 1) -> tuple[int, int]:
    """Height and width of a window of `factor` patches each way; a ValueError when it is no such number."""
    if not isinstance(factor, int) or factor < smallest:
        raise ValueError(f"factor={factor!r}: must be a whole number of patches, at least {smallest}, such as 2.")
    return factor, factor


def query_side(num_queries: int) -> int:
    """Rows, and columns, of a square of so many queries; a ValueError when it is none."""
    side = math.isqrt(num_queries) if isinstance(num_queries, int) and num_queries > 0 else 0
    if not side or side * side != num_queries:
        raise ValueError(f"num_queries={num_queries!r}: must be a square number, such as 64, 144 or 256.")
    return side


def query_grid(num_queries: int, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of the queries over a grid of patches; a ValueError where they are finer than it."""
    side = query_side(num_queries)
    if side > min(rows, cols):
        raise ValueError(
            f"num_queries={num_queries} is a grid of {side}x{side} tokens, finer than the vision encoder's of "
            f"{rows}x{cols} patches. Choose at most {min(rows, cols) ** 2}."
        )
    return side, side


def grid_of(features: Tensor, grid: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of `[N, rows * cols, D]`: `grid`, or those of a square; a ValueError for another number."""
    rows, cols = grid or square_grid(features.shape[1])
    if rows * cols != features.shape[1]:
        raise ValueError(
            f"The projector got {features.shape[1]} tokens of an image for a grid of {rows}x{cols} patches. A class "
            "token is no patch: leave keep_prefix_tokens off, or take a projector of single patches (mlp2x_gelu)."
        )
    return rows, cols


def square_grid(num_patches: int) -> tuple[int, int]:
    """The sides of a square of so many patches; a ValueError when it is none."""
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise ValueError(f"{num_patches} patches are no square: state the grid as (rows, cols).")
    return side, side

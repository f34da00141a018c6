"""What every projector is: a module that also says how many tokens it makes of a grid, before any tensor exists."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Projector(nn.Module):
    """Maps `[N, rows * cols, D_vision]` to `[N, num_tokens(rows, cols), D_text]`.

    A subclass takes `(vision_width, text_width, **options)`; the options are those of `LlavaSomConfig.projector`.
    """

    @classmethod
    def num_tokens(cls, rows: int, cols: int, **options: Any) -> int:
        """Tokens the decoder sees for one grid; the processor and the model both ask this."""
        return rows * cols

    def forward(self, features: Tensor) -> Tensor:
        """`[N, rows * cols, D_vision]` to `[N, T, D_text]`."""
        raise NotImplementedError

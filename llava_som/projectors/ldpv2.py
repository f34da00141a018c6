"""LDPv2, the projector of MobileVLM V2 (arXiv 2402.03766): an MLP, average pooling, and positions by convolution.

The depthwise convolution tells a token what lies around it and, through its zero padding, where the border is; it
reaches over windows, so tokens cannot be made one by one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import Projector, grid_of, square_window, windows_in


@PROJECTORS.register("ldpv2")
class LDPv2Projector(Projector):
    """Linear, GELU, linear, average pooling, and a 3x3 depthwise convolution added to what it sees.

    The pool stands before the second linear layer here: a mean and a linear layer may change places, and a quarter of
    the tokens is left to compute.

    Args:
        vision_width: D.
        text_width: D_text.
        factor: patches that are pooled in each direction; published with 2.
    """

    def __init__(self, vision_width: int, text_width: int, factor: int = 2) -> None:
        super().__init__()
        self.factor, _ = square_window(factor)
        self.linear_1 = nn.Linear(vision_width, text_width)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(text_width, text_width)
        self.positions = nn.Conv2d(text_width, text_width, kernel_size=3, padding=1, groups=text_width)

    @classmethod
    def output_grid(cls, rows: int, cols: int, factor: int = 2, **options: Any) -> tuple[int, int]:
        """A `factor`-th of the rows and columns; a ValueError where it does not divide them."""
        return windows_in(rows, cols, *square_window(factor))

    def forward(self, features: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`[N, rows * cols, D_vision]` to `[N, T, D_text]`."""
        out_rows, out_cols = self.output_grid(*grid_of(features, grid), self.factor)
        hidden = self.act(self.linear_1(features))
        windows = hidden.unflatten(1, (out_rows, self.factor, out_cols, self.factor))
        map_NDRC = self.linear_2(windows.mean(dim=(2, 4))).permute(0, 3, 1, 2)
        return (map_NDRC + self.positions(map_NDRC)).flatten(2).transpose(1, 2)

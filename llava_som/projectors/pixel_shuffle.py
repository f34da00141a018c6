"""Pixel shuffle (InternVL 1.5, arXiv 2404.16821, section 3.1): the patches of a square, concatenated, are one token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import GroupedProjector, square_window


@PROJECTORS.register("pixel_shuffle")
class PixelShuffleProjector(GroupedProjector):
    """LayerNorm, linear, GELU, linear on the concatenated patches of each window, row by row as in InternVL's code.

    Args:
        vision_width: D.
        text_width: D_text.
        factor: patches of a window in each direction; InternVL's `downsample_ratio` of 0.5 is 2.
    """

    def __init__(self, vision_width: int, text_width: int, factor: int = 2) -> None:
        super().__init__()
        self.window_size = self.window(factor)
        inner = factor * factor * vision_width
        self.norm = nn.LayerNorm(inner)
        self.linear_1 = nn.Linear(inner, text_width)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(text_width, text_width)

    @classmethod
    def window(cls, factor: int = 2, **options: Any) -> tuple[int, int]:
        """`factor` x `factor`; a ValueError when it is no positive whole number."""
        return square_window(factor)

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., factor ** 2, D_vision]` to `[..., D_text]`."""
        return self.linear_2(self.act(self.linear_1(self.norm(windows.flatten(-2)))))

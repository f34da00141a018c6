"""Average pooling: the mean of a square of patches through LLaVA-1.5's MLP, the plainest way to fewer tokens.

A baseline in the comparison of TokenPacker (arXiv 2407.02392).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import square_window
from llava_som.projectors.mlp import MLPProjector


@PROJECTORS.register("avgpool")
class AvgPoolProjector(MLPProjector):
    """`mlp2x_gelu` on the mean of each window; parameter names are the same.

    Args:
        vision_width: D.
        text_width: D_text.
        factor: patches of a window in each direction.
    """

    def __init__(self, vision_width: int, text_width: int, factor: int = 2) -> None:
        super().__init__(vision_width, text_width)
        self.window_size = self.window(factor)

    @classmethod
    def window(cls, factor: int = 2, **options: Any) -> tuple[int, int]:
        """`factor` x `factor`; a ValueError when it is no positive whole number."""
        return square_window(factor)

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., factor ** 2, D_vision]` to `[..., D_text]`."""
        return super().project_windows(windows.mean(dim=-2, keepdim=True))

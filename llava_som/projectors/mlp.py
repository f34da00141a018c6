"""Token-wise projectors: `linear` (LLaVA) and `mlp2x_gelu` (LLaVA-1.5, arXiv 2310.03744, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.activations import ACT2FN

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import GroupedProjector


@PROJECTORS.register("linear")
class LinearProjector(GroupedProjector):
    """One linear layer."""

    def __init__(self, vision_width: int, text_width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(vision_width, text_width, bias=bias)

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., 1, D_vision]` to `[..., D_text]`."""
        return self.linear(windows.squeeze(-2))


@PROJECTORS.register("mlp2x_gelu")
class MLPProjector(GroupedProjector):
    """Two linear layers with an activation between them; parameter names are those of transformers' LLaVA."""

    def __init__(self, vision_width: int, text_width: int, bias: bool = True, activation: str = "gelu") -> None:
        super().__init__()
        self.linear_1 = nn.Linear(vision_width, text_width, bias=bias)
        self.act = ACT2FN[activation]
        self.linear_2 = nn.Linear(text_width, text_width, bias=bias)

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., 1, D_vision]` to `[..., D_text]`."""
        return self.linear_2(self.act(self.linear_1(windows.squeeze(-2))))

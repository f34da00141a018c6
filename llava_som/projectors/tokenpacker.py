"""TokenPacker (arXiv 2407.02392): each point of a coarse map takes in the details of its own region.

The coarse map is the fine one, shrunk bilinearly by a whole factor; a point of it depends on the middle of its region
alone. So a token depends on its window, and tokens are made one by one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.attention import CrossAttention
from llava_som.projectors.base import GroupedProjector, square_window


@PROJECTORS.register("tokenpacker")
class TokenPacker(GroupedProjector):
    """Cross-attention of the middle of each window to its patches, then linear, GELU, linear.

    As in the released code, nothing goes around the attention. Keys and values may come from several layers of the
    vision encoder (`vision_feature_layer` as a list); the released models read 12, 16, 22 and 23 of CLIP-L.

    Args:
        vision_width: width of the features of all levels together.
        text_width: D_text.
        factor: patches of a window in each direction.
        levels: layers of the vision encoder that are concatenated; the last one makes the query.
        heads: attention heads.

    Raises:
        ValueError: a factor below 2, levels that do not divide the width, or heads that do not divide that of a level.
    """

    def __init__(self, vision_width: int, text_width: int, factor: int = 2, levels: int = 1, heads: int = 8) -> None:
        super().__init__()
        self.window_size = self.window(factor)
        if levels < 1 or vision_width % levels:
            raise ValueError(
                f"levels={levels} do not divide features of width {vision_width}. It is the number of layers in "
                "vision_feature_layer."
            )
        self.width = vision_width // levels
        self.query = nn.Sequential(nn.Linear(self.width, self.width, bias=False), nn.LayerNorm(self.width, eps=1e-6))
        self.key = _two_layers(vision_width, self.width)
        self.key_norm = nn.LayerNorm(self.width, eps=1e-6, bias=False)  # a softmax would not see the bias
        self.value = _two_layers(vision_width, self.width)
        self.value_norm = nn.LayerNorm(self.width, eps=1e-6)
        self.attention = CrossAttention(self.width, heads)
        self.project = _two_layers(self.width, text_width)

    @classmethod
    def window(cls, factor: int = 2, **options: Any) -> tuple[int, int]:
        """`factor` x `factor`; a ValueError below 2, where there is nothing to choose from."""
        return square_window(factor, smallest=2)

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., factor ** 2, levels * D]` to `[..., D_text]`."""
        region_BKD = windows.reshape(-1, *windows.shape[-2:])
        query_B1D = self.query(self._middle(region_BKD[..., -self.width :]))
        key_BKD, value_BKD = self.key_norm(self.key(region_BKD)), self.value_norm(self.value(region_BKD))
        return self.project(self.attention(query_B1D, key_BKD, value_BKD)).view(*windows.shape[:-2], -1)

    def _middle(self, region_BKD: Tensor) -> Tensor:
        """What bilinear interpolation takes of a window: its one middle patch or the mean of four, `[B, 1, D]`."""
        size = self.window_size[0]
        middle = slice((size - 1) // 2, size // 2 + 1)
        return region_BKD.unflatten(1, (size, size))[:, middle, middle].mean(dim=(1, 2)).unsqueeze(1)


def _two_layers(width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out_width), nn.GELU(), nn.Linear(out_width, out_width))

"""C-Abstractor (Honeybee, arXiv 2312.06742): convolutions, average pooling to any number of tokens, convolutions.

The convolutional blocks are timm's RegNet stage, as in Honeybee's code. Its learned positions are left out: they are
tied to one grid, and the zero padding of the convolutions tells the border.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import Projector, grid_of, query_grid, query_side


@PROJECTORS.register("c_abstractor")
class CAbstractor(Projector):
    """RegNet stage, pooling, RegNet stage at the vision width, then linear, SiLU, linear.

    Args:
        vision_width: D.
        text_width: D_text.
        num_queries: tokens of an image, a square number; no more each way than there are patches.
        depth: blocks before the pooling, and as many after it.
    """

    def __init__(self, vision_width: int, text_width: int, num_queries: int = 144, depth: int = 3) -> None:
        super().__init__()
        query_side(num_queries)
        if depth < 1:
            raise ValueError(f"depth={depth}: must be at least 1. For pooling without convolutions take avgpool.")
        self.num_queries = num_queries
        self.before = _stage(vision_width, depth)
        self.after = _stage(vision_width, depth)
        self.linear_1 = nn.Linear(vision_width, text_width)
        self.act = nn.SiLU()
        self.linear_2 = nn.Linear(text_width, text_width)

    @classmethod
    def output_grid(cls, rows: int, cols: int, num_queries: int = 144, **options: Any) -> tuple[int, int]:
        """The square of the tokens; a ValueError for another number, or one finer than the patches."""
        return query_grid(num_queries, rows, cols)

    def forward(self, features: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`[N, rows * cols, D_vision]` to `[N, num_queries, D_text]`."""
        rows, cols = grid_of(features, grid)
        out_grid = self.output_grid(rows, cols, self.num_queries)
        map_NDRC = self.before(features.transpose(1, 2).unflatten(2, (rows, cols)))
        map_NDRC = self.after(F.adaptive_avg_pool2d(map_NDRC, out_grid))
        return self.linear_2(self.act(self.linear_1(map_NDRC.flatten(2).transpose(1, 2))))


def _stage(width: int, depth: int) -> nn.Module:
    from timm.layers import LayerNorm2d  # takes seconds, and all projectors are imported to know their names
    from timm.models.regnet import RegStage

    return RegStage(depth, width, width, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d)

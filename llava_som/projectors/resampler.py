"""Resampler (Qwen-VL, arXiv 2308.12966, section 2.1; UReader, arXiv 2310.05126): learned queries look at all patches.

Queries lie on a square over the image and patches on their own grid; both know where by 2-D sine-cosine positions in
the same units, so that the number of patches may change after training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.attention import CrossAttention
from llava_som.projectors.base import Projector, grid_of, query_grid, query_side


@PROJECTORS.register("resampler")
class Resampler(Projector):
    """Layers of cross-attention and MLP at the vision width, then a norm and a linear layer to the text width.

    Qwen-VL's has one layer and no MLP, UReader's six with one each.

    Args:
        vision_width: D; a multiple of 4.
        text_width: D_text.
        num_queries: tokens of an image, a square number; no more each way than there are patches.
        layers: of attention and MLP.
        heads: attention heads.
    """

    def __init__(
        self, vision_width: int, text_width: int, num_queries: int = 144, layers: int = 1, heads: int = 8
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers={layers}: must be at least 1.")
        if vision_width % 4:
            raise ValueError(f"The vision features are {vision_width} wide: the resampler needs a multiple of 4.")
        query_side(num_queries)
        self.queries = nn.Parameter(torch.randn(num_queries, vision_width) * 0.02)
        self.patch_norm = nn.LayerNorm(vision_width)
        self.layers = nn.ModuleList(ResamplerLayer(vision_width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(vision_width)
        self.project = nn.Linear(vision_width, text_width)

    @classmethod
    def output_grid(cls, rows: int, cols: int, num_queries: int = 144, **options: Any) -> tuple[int, int]:
        """The square of the queries; a ValueError for another number, or one finer than the patches."""
        return query_grid(num_queries, rows, cols)

    def forward(self, features: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`[N, rows * cols, D_vision]` to `[N, num_queries, D_text]`."""
        rows, cols = grid_of(features, grid)
        side, _ = self.output_grid(rows, cols, len(self.queries))
        query_position = sincos_positions(side, side, side, features)
        patch_position = sincos_positions(rows, cols, side, features)
        patches = self.patch_norm(features)
        hidden = self.queries.expand(len(features), -1, -1)
        for layer in self.layers:
            hidden = layer(hidden, query_position, patches, patches + patch_position)
        return self.project(self.norm(hidden))


class ResamplerLayer(nn.Module):
    """Cross-attention and an MLP, each behind a norm and added to the queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden_NQD: Tensor, position_QD: Tensor, patches_NTD: Tensor, keys_NTD: Tensor) -> Tensor:
        """`[N, Q, D]` in, the same out; `keys_NTD` are the patches with their positions added."""
        query = self.attention_norm(hidden_NQD) + position_QD
        hidden_NQD = hidden_NQD + self.attention(query, keys_NTD, patches_NTD)
        return hidden_NQD + self.mlp(self.mlp_norm(hidden_NQD))


def sincos_positions(rows: int, cols: int, side: int, like: Tensor) -> Tensor:
    """Where the cells of a grid lie, `[rows * cols, D]`: half of the width tells the row, half the column.

    Args:
        rows: of the grid.
        cols: of the grid.
        side: cells along each side of the square that counts as the unit: its own cells are at 0, 1, 2 ...
        like: gives width, device and dtype; computed in float32.
    """
    rows_RD, cols_CD = (_sincos(size, side, like) for size in (rows, cols))
    both = torch.cat([rows_RD.unsqueeze(1).expand(-1, cols, -1), cols_CD.unsqueeze(0).expand(rows, -1, -1)], dim=-1)
    return both.flatten(0, 1).to(like.dtype)


def _sincos(size: int, side: int, like: Tensor) -> Tensor:
    frequencies = like.shape[-1] // 4
    numbers = torch.arange(max(size, frequencies), device=like.device, dtype=torch.float32)
    centres = (numbers[:size] + 0.5) * side / size - 0.5
    wavelength = 10000 ** (numbers[:frequencies] / frequencies)
    angles = centres.unsqueeze(1) / wavelength
    return torch.cat([angles.sin(), angles.cos()], dim=-1)

"""Cross-attention from the tokens to be made to the patches; no projector by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Queries look at keys and take values: four linear layers around scaled dot product attention.

    The keys have no bias: it would add the same to all scores of a query, which a softmax does not see.

    Args:
        width: D, of everything.
        heads: divides it.

    Raises:
        ValueError: `heads` does not divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            allowed = ", ".join(str(number) for number in range(1, 33) if width % number == 0)
            raise ValueError(
                f"heads={heads} do not divide the width {width} of the vision features. Allowed: {allowed}."
            )
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, query_BQD: Tensor, key_BKD: Tensor, value_BKD: Tensor) -> Tensor:
        """`[B, Q, D]` from queries of that shape, and keys and values `[B, K, D]`."""
        q_BHQd = self._by_head(self.q_proj(query_BQD))
        k_BHKd, v_BHKd = self._by_head(self.k_proj(key_BKD)), self._by_head(self.v_proj(value_BKD))
        attended_BHQd = F.scaled_dot_product_attention(q_BHQd, k_BHKd, v_BHKd)
        return self.out_proj(attended_BHQd.transpose(1, 2).flatten(2))

    def _by_head(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(-1, (self.heads, -1)).transpose(1, 2)

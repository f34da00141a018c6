"""A page's token budget shared out among its tiles, in whole tokens that add up."""

from __future__ import annotations

import torch
from torch import Tensor

from llava_som.pruning.base import keep_top


def apportion(weights_M: Tensor, capacity_M: Tensor, total: int, minimum: int) -> Tensor:
    """So many tokens for each tile, in proportion to the weights as far as capacities allow, int64 `[M]`.

    Each token goes to the tile that has fewest for its weight (Sainte-Laguë's method for seats in a parliament), so
    nothing is lost by rounding, and what a full tile cannot take goes to the others.

    Args:
        weights_M: of the tiles, not negative.
        capacity_M: the most that each can take, int64.
        total: what is to be shared out; at least the minimum of all, at most what they can take.
        minimum: what each tile gets first, up to its capacity.
    """
    place = torch.arange(int(capacity_M.max()), device=weights_M.device)
    turn = (place + 0.5) / weights_M.float().clamp(min=1e-9).unsqueeze(1)
    exists = place < capacity_M.unsqueeze(1)
    turn = turn.masked_fill(place < minimum, -1).masked_fill(~exists, torch.inf)
    total = min(max(total, int(capacity_M.clamp(max=minimum).sum())), int(exists.sum()))
    return keep_top(-turn.flatten().unsqueeze(0), total).view_as(turn).sum(dim=1)

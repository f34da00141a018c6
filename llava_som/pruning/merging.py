"""Dropped tokens folded into kept ones, by the similarity of their keys; shared by the pruners that merge.

All pairs of a tile are compared, a few tiles at a time, so that memory does not grow with the number of pages.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_PAIRS_AT_ONCE = 2**24  # 64 MB of float32


def cosine_similarities(keys_NUC: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Cosine of all pairs in each tile, float32 `[n, U, U]`, and which n tiles these are."""
    count = keys_NUC.shape[1]
    step = max(1, _PAIRS_AT_ONCE // count**2)
    for first in range(0, len(keys_NUC), step):
        tiles = slice(first, first + step)
        unit_nUC = F.normalize(keys_NUC[tiles].float(), dim=-1)
        yield tiles, unit_nUC @ unit_nUC.transpose(1, 2)


def averaged_into_nearest(features_NUW: Tensor, keys_NUC: Tensor, weights_NU: Tensor, is_target: Tensor) -> Tensor:
    """Each target as the weighted mean of itself and of the others to which it is the most similar target.

    Args:
        features_NUW: the tokens.
        keys_NUC: what is compared.
        weights_NU: of the tokens, not negative; 0 leaves a token out.
        is_target: which tokens others are folded into, bool `[N, U]`, at least one in each row.

    Returns:
        `[N, U, W]`, in which tokens that are no target are as before.
    """
    merged = []
    for tiles, similar_nUU in cosine_similarities(keys_NUC):
        nearest = similar_nUU.masked_fill(~is_target[tiles].unsqueeze(1), -torch.inf).argmax(dim=2, keepdim=True)
        given = weights_NU[tiles].masked_fill(is_target[tiles], 0.0).unsqueeze(2).float()
        share_nUU = torch.zeros_like(similar_nUU).scatter_(2, nearest, given).transpose(1, 2)  # to target, from other
        received = share_nUU.sum(dim=2, keepdim=True)
        total = (weights_NU[tiles].unsqueeze(2) + received).clamp(min=torch.finfo(torch.float32).tiny)
        features = features_NUW[tiles]
        change = _weighted_sum(share_nUU / total, features) - (received / total).to(features.dtype) * features
        merged.append(features + change)
    return torch.cat(merged)


def nearest_added(features_NUW: Tensor, keys_NUC: Tensor, weights_NU: Tensor, neighbours: int) -> Tensor:
    """Each token plus the weighted sum of those most similar to it, kept or not (PruMerge), `[N, U, W]`.

    Args:
        features_NUW: the tokens.
        keys_NUC: what is compared.
        weights_NU: of the tokens; they are not normalised.
        neighbours: how many are added to each.
    """
    merged = []
    for tiles, similar_nUU in cosine_similarities(keys_NUC):
        similar_nUU.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        nearest = similar_nUU.topk(min(neighbours, similar_nUU.shape[2] - 1), dim=2).indices
        is_near = torch.zeros_like(similar_nUU).scatter_(2, nearest, 1.0)
        features = features_NUW[tiles]
        merged.append(features + _weighted_sum(is_near * weights_NU[tiles].unsqueeze(1), features))
    return torch.cat(merged)


def _weighted_sum(weights_nUU: Tensor, features_nUW: Tensor) -> Tensor:
    return weights_nUU.to(features_nUW.dtype) @ features_nUW

"""A pretrained vision encoder at another image size: its learned positions, resized once.

CLIP is published at 224 and 336 pixels, DocOwl reads tiles of 448 and 504. The patches stay as large as they are, so
the grid of learned positions grows; bicubic, as transformers' own `interpolate_pos_encoding` does at every call.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def resize_image(tower: Any, image_size: int) -> None:
    """Make a tower take square images of `image_size` pixels, in place, its config included.

    Raises:
        ValueError: the size is no multiple of the patch size, or the tower has no learned positions of CLIP's or
            SigLIP's kind.
    """
    config = tower.config
    if image_size == getattr(config, "image_size", None):
        return
    embeddings: Any = getattr(tower, "embeddings", None)
    table = getattr(embeddings, "position_embedding", None)
    if not isinstance(table, nn.Embedding) or not isinstance(config.image_size, int):
        raise ValueError(
            f"vision_image_size={image_size}: {config.model_type!r} has no learned positions that can be resized here. "
            "CLIP and SigLIP have; a timm tower takes image_size among its own options."
        )
    if image_size < config.patch_size or image_size % config.patch_size:
        raise ValueError(f"vision_image_size={image_size}: must be a multiple of the patch size, {config.patch_size}.")
    side, old_side = image_size // config.patch_size, config.image_size // config.patch_size
    prefix = len(table.weight) - old_side**2
    weight = torch.cat([table.weight[:prefix], _resized(table.weight[prefix:], old_side, side)])
    embeddings.position_embedding = nn.Embedding.from_pretrained(weight, freeze=not table.weight.requires_grad)
    embeddings.position_ids = torch.arange(len(weight), device=weight.device).expand(1, -1)
    for counted, number in (("num_patches", side**2), ("num_positions", len(weight))):
        if hasattr(embeddings, counted):
            setattr(embeddings, counted, number)
    embeddings.image_size = config.image_size = image_size


def _resized(positions_TD: Tensor, old_side: int, side: int) -> Tensor:
    """A square table of positions as one of another side, row by row: `[old_side^2, D]` to `[side^2, D]`."""
    grid = positions_TD.float().T.view(1, -1, old_side, old_side)
    resized = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.to(positions_TD.dtype).contiguous()

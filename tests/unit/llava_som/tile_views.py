"""Views of tiles of 8x8 patches with keys and attention made to order, as pruners see them."""

import torch

from llava_som.page_encoder import units_in
from llava_som.pruning import build_pruner
from llava_som.pruning.attention import QueriesAndKeys
from llava_som.pruning.base import TileView
from llava_som.tiling import TileGrid

SIDE = 8
PATCHES = SIDE * SIDE
ONE_CROP = TileGrid(1, 1, has_global=False)


def block(keys_NTC, attention_NT=None):
    """A block whose class token attends to the patches in proportion to `attention_NT`, and not to itself.

    One more dimension of the keys holds the attention; keys given by the functions below are too long for it to matter.
    """
    tiles, patches, width = keys_NTC.shape
    attention = torch.ones(tiles, patches) if attention_NT is None else attention_NT
    logits = torch.cat([torch.full((tiles, 1), -100.0), attention.log()], dim=1).unsqueeze(2)
    keys = torch.cat([torch.cat([torch.zeros(tiles, 1, width), keys_NTC], dim=1), logits], dim=2)
    query = torch.zeros(tiles, width + 1)
    query[:, -1] = (width + 1) ** 0.5  # undoes the scaling
    return QueriesAndKeys(1, 1, keys, query, query)


def view_of(attention, pages=(ONE_CROP,), window=1, features=None):
    """A view of tiles of 8x8 patches in windows of 1 x `window`; `attention` for every block or by number."""
    blocks = attention if isinstance(attention, dict) else dict.fromkeys(range(-3, 3), attention)
    tiles = sum(page.num_tiles for page in pages)
    out_grid = (SIDE, SIDE // window)
    units = units_in((SIDE, SIDE), out_grid, torch.device("cpu"))
    features = torch.randn(tiles, units.count, 6) if features is None else features
    pixels = torch.zeros(tiles, 3, 4 * SIDE, 4 * SIDE)
    return TileView(features, units, pixels, blocks, pages, (SIDE, SIDE), out_grid, training=False)


def different(tiles=1, patches=PATCHES):
    return 100 * torch.randn(tiles, patches, 32, generator=torch.Generator().manual_seed(1))


def alike(tiles=1, patches=PATCHES):
    return 100 * torch.ones(tiles, patches, 32)


def uneven(tiles=1):
    return torch.rand(tiles, PATCHES, generator=torch.Generator().manual_seed(2)) + 0.05


def pruner(name, **options):
    return build_pruner({"type": name, "min_tokens": 1, **options})

"""DocCompressor (mPLUG-DocOwl2, arXiv 2409.03420, section 3.3): a page in as many tokens as one tile.

Each token of the global tile attends to the high-resolution tokens of its own area and to nothing else. There are few
keys for a query, and as many for every query of a page. All pages go through the layers in one call; inside, pages of
equally many crops go through one call of scaled dot product attention, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import PageCompressor, ProjectedTiles
from llava_som.compressors.windows import crop_tokens, window_tokens


@COMPRESSORS.register("doc_compressor")
class DocCompressor(PageCompressor):
    """Cross-attention of each global token to its window.

    Args:
        width: D, of the decoder.
        layers: of cross-attention; all see the same keys.
        heads: attention heads.
        inner_width: width at which the layers work, between a projection down and one up; D when absent, as published.
        eos: a learned vector after each page; the published checkpoint has it.

    Raises:
        ValueError: no layers or heads, or heads that do not divide the width.
    """

    def __init__(
        self, width: int, layers: int = 2, heads: int = 16, inner_width: int | None = None, eos: bool = False
    ) -> None:
        super().__init__(width, eos)
        inner = width if inner_width is None else inner_width
        for name, number in (("layers", layers), ("heads", heads), ("inner_width", inner)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name}={number!r}: the compressor takes a whole number of at least 1.")
        if inner % heads:
            raise ValueError(f"heads={heads} do not divide the width {inner} of the compressor. Choose a divisor.")
        self.down = nn.Linear(width, inner) if inner != width else nn.Identity()
        self.layers = nn.ModuleList(WindowAttentionLayer(inner, heads) for _ in range(layers))
        self.project = nn.Linear(inner, width)

    def compress(self, global_PTD: Tensor, tiles: ProjectedTiles) -> Tensor:
        """Page tokens `[P, T, D]`."""
        keys, tokens_SD = self.keys(tiles), self.down(crop_tokens(tiles))
        hidden_PTD = self.down(global_PTD)
        for layer in self.layers:
            hidden_PTD = layer(hidden_PTD, tokens_SD, keys)
        return self.project(hidden_PTD)

    def keys(self, tiles: ProjectedTiles) -> Keys:
        """A window for each query."""
        index_PTK, valid_PTK = window_tokens(tiles)
        return Keys(index_PTK, None if tiles.keep is None else valid_PTK, [page.num_crops for page in tiles.pages])


@dataclass(frozen=True)
class Keys:
    """Which tokens the queries of P pages attend to.

    Attributes:
        index_PGK: numbers of tokens; each of G groups of successive queries of a page has its own.
        valid_PGK: bool; which of them are meant, beside what `counts` leaves out; None when all are.
        counts: how many of the K each page has; they come first.
    """

    index_PGK: Tensor
    valid_PGK: Tensor | None
    counts: Sequence[int]

    def by_count(self) -> list[tuple[list[int], Tensor, Tensor | None]]:
        """Pages with equally many keys, and their `index` and `valid` with pages and groups as one dimension B."""
        found = []
        for count in sorted(set(self.counts)):
            pages = [page for page, own in enumerate(self.counts) if own == count]
            index, valid = (
                part if part is None else part[pages, :, :count].flatten(0, 1)
                for part in (self.index_PGK, self.valid_PGK)
            )
            found.append((pages, index, valid))
        return found  # type: ignore[return-value]


class WindowAttentionLayer(nn.Module):
    """Attention of queries to their keys, then a SwiGLU network with a norm inside.

    As published, the attention is added to the normalised query, not to the query itself.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm = nn.LayerNorm(width)
        self.key_norm = nn.LayerNorm(width)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = NormedSwiGLU(width)

    def forward(self, query_PTD: Tensor, tokens_SD: Tensor, keys: Keys) -> Tensor:
        """`[P, T, D]` in, the same out.

        Args:
            query_PTD: the queries.
            tokens_SD: all high-resolution tokens.
            keys: which of these each query attends to.
        """
        query = self.query_norm(query_PTD)
        hidden = query + self.out_proj(self._attend(query, self.key_norm(tokens_SD), keys))
        return hidden + self.mlp(self.mlp_norm(hidden))

    def _attend(self, query_PTD: Tensor, tokens_SD: Tensor, keys: Keys) -> Tensor:
        query, key, value = self.q_proj(query_PTD), self.k_proj(tokens_SD), self.v_proj(tokens_SD)
        attended = query.new_empty(query.shape)
        for pages, index_BK, valid_BK in keys.by_count():
            q_BHQd = self._by_head(query[pages].view(len(index_BK), -1, query.shape[-1]))
            k_BHKd, v_BHKd = self._by_head(key[index_BK]), self._by_head(value[index_BK])
            mask = None if valid_BK is None else valid_BK[:, None, None]
            found = F.scaled_dot_product_attention(q_BHQd, k_BHKd, v_BHKd, mask).transpose(1, 2)
            attended[pages] = found.reshape(len(pages), *query.shape[1:])
        return attended

    def _by_head(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class NormedSwiGLU(nn.Module):
    """`down(norm(silu(gate(x)) * up(x)))`, inner width 8/3 of the outer, rounded up to 256."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = -(-(8 * width // 3) // 256) * 256
        self.gate_proj = nn.Linear(width, inner)
        self.up_proj = nn.Linear(width, inner)
        self.norm = nn.LayerNorm(inner, eps=1e-6)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., D]` to `[..., D]`."""
        return self.down_proj(self.norm(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden)))

"""How many placeholders a page takes: the one count of processor, model and serving engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llava_som.compressors import COMPRESSORS
from llava_som.tiling import TileGrid


@dataclass(frozen=True)
class TokenCount:
    """What the count depends on; plain values, so that a processor can save it.

    Attributes:
        rows: of the projector's tokens for one tile.
        cols: of these tokens.
        num_special: the projector's tokens after those of the grid.
        compressor: `{"type": name, **options}`.
    """

    rows: int
    cols: int
    num_special: int
    compressor: dict[str, Any]

    def span_lengths(self, page: TileGrid) -> list[int]:
        """Placeholders of a page, a number for each stretch between which text may stand."""
        compressor, options = COMPRESSORS.resolve(self.compressor)
        return compressor.span_lengths(page, (self.rows, self.cols), self.num_special, **options)

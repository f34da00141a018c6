"""What every pruner is: frozen options, and a choice of which vision tokens stay.

Two kinds share one registry. A `TilePruner` chooses between vision encoder and decoder, from what the encoder saw; a
`DecoderPruner` (llava_som.pruning.in_decoder) inside the decoder, from the prompt as well.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from llava_som.config_file import option
from llava_som.projectors.base import GroupedProjector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llava_som.projectors.base import Projector
    from llava_som.pruning.attention import QueriesAndKeys
    from llava_som.tiling import TileGrid

Placement = Literal["pre_v2t", "pre_v2t_group", "post_v2t"]


@dataclass(frozen=True)
class Units:
    """What is kept or dropped as a whole, and the patches that each covers.

    Attributes:
        count: U, units in a tile.
        of_patch: number of the unit of each patch, `[T]`.
    """

    count: int
    of_patch: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the patches of each unit: `[N, T]` to `[N, U]`, or with further dimensions after these."""
        return self._reduce(values, "mean")

    def largest(self, scores_NT: Tensor) -> Tensor:
        """Largest over the patches of each unit: `[N, T]` to `[N, U]`."""
        return self._reduce(scores_NT, "amax")

    def all(self, is_so_NT: Tensor) -> Tensor:
        """Whether it is so for all patches of a unit: bool `[N, T]` to `[N, U]`."""
        return self._reduce(is_so_NT.float(), "amin").bool()

    def _reduce(self, values: Tensor, how: str) -> Tensor:
        if self.count == len(self.of_patch):  # a patch each, in order
            return values
        empty = values.new_zeros(len(values), self.count, *values.shape[2:])
        unit = self.of_patch.view(1, -1, *[1] * (values.ndim - 2)).expand_as(values)
        return empty.scatter_reduce(1, unit, values, reduce=how, include_self=False)


@dataclass(frozen=True)
class TileView:
    """What a pruner may look at: N tiles of T patches, in U units.

    Attributes:
        features: what is kept or dropped, `[N, U, W]`: patches, windows of patches, or projected tokens.
        units: which patches a unit covers.
        pixel_values: `[N, 3, S, S]`, normalised.
        attention: queries and keys of the vision blocks that the pruner asked for, by its own numbers.
        pages: the grid of each page; tiles stand page by page, a page's global tile first.
        grid: rows and columns of patches in a tile.
        unit_grid: rows and columns of units in a tile.
        training: whether weights are being learned, so that chance may differ from step to step.
    """

    features: Tensor
    units: Units
    pixel_values: Tensor
    attention: Mapping[int, QueriesAndKeys]
    pages: Sequence[TileGrid]
    grid: tuple[int, int]
    unit_grid: tuple[int, int]
    training: bool

    def is_global(self) -> Tensor:
        """Which tiles show the whole page beside its crops, bool `[N]`."""
        positions = [position for page in self.pages for position in page.positions()]
        return torch.tensor([position is None for position in positions], device=self.features.device)

    def uniform(self, seed: int) -> Tensor:
        """Random numbers in [0, 1), `[N, U]`: new ones in training, otherwise the same for the same tile of a page.

        They depend on a tile's place in its page, not in the batch, so a batch gives what its pages give alone.
        """
        count = self.units.count
        if self.training:
            return torch.rand(len(self.features), count, device=self.features.device)
        numbers = [number for page in self.pages for number in range(page.num_tiles)]
        return torch.stack([_tile_noise(seed, number, count) for number in numbers]).to(self.features.device)


@dataclass(frozen=True)
class Choice:
    """What a pruner decided.

    Attributes:
        keep: which units stay, bool `[N, U]`.
        features: the units, `[N, U, W]`; those of a view, unless dropped ones were merged into kept ones.
        scores: what decided, `[N, U]`, higher is kept first.
        density: share of a tile that carries information, `[N]`, where the pruner estimates it.
    """

    keep: Tensor
    features: Tensor
    scores: Tensor
    density: Tensor | None = None

    @classmethod
    def joined(cls, choices: Sequence[Choice]) -> Choice:
        """The choices about some tiles and the tiles after them, of one pruner."""
        densities = [choice.density for choice in choices if choice.density is not None]
        return cls(
            torch.cat([choice.keep for choice in choices]),
            torch.cat([choice.features for choice in choices]),
            torch.cat([choice.scores for choice in choices]),
            torch.cat(densities) if densities else None,
        )


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Options that all pruners share."""

    min_tokens: int = option(16, help="a tile keeps at least so many of its tokens, also when it is blank")

    def __post_init__(self) -> None:
        if self.min_tokens < 1:
            raise ValueError(f"min_tokens={self.min_tokens}: must be at least 1; a page without tokens cannot be read.")


@dataclass(frozen=True, kw_only=True)
class TilePruner(Pruner, ABC):
    """Chooses among the tokens of tiles. Subclasses add options as fields."""

    placement: Placement | None = option(
        None,
        help="pre_v2t: patches are dropped and the rest regrouped; pre_v2t_group: whole windows of the projector are; "
        "post_v2t: projected tokens are. By default pre_v2t_group, or post_v2t where the projector has no windows",
    )
    apply_to: Literal["crops", "all"] = option("crops", help="whether the global tile of a page is spared")
    seed: int = option(0, help="of what is left to chance at inference")

    def layers(self) -> tuple[int, ...]:
        """Numbers of the vision blocks whose queries and keys are needed; negative ones count from the last."""
        return ()

    @abstractmethod
    def choose(self, view: TileView) -> Choice:
        """Which units stay. The choice for a page must not depend on other pages of the batch."""


@dataclass(frozen=True, kw_only=True)
class BudgetPruner(TilePruner):
    """A pruner that keeps the same share of every tile."""

    keep_ratio: float = option(0.5, help="share of the tokens of a tile that stay")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("keep_ratio", self.keep_ratio)

    def budget(self, count: int) -> int:
        """Tokens that stay of `count`: the share rounded up, at least `min_tokens`, at most all."""
        return tokens_to_keep(self.keep_ratio, count, self.min_tokens)

    def highest(self, scores_NU: Tensor) -> Tensor:
        """The budget's number of highest scores of each tile, bool `[N, U]`."""
        return keep_top(scores_NU, self.budget(scores_NU.shape[1]))


def check_share(name: str, share: float) -> None:
    """A ValueError for a share that keeps nothing or more than everything."""
    if not 0 < share <= 1:
        raise ValueError(f"{name}={share}: must be above 0 and at most 1 (1 keeps everything).")


def share_of(share: float, count: int) -> int:
    """A share of `count`, rounded up; 0.1 of 30 is 3 in spite of floating point."""
    return math.ceil(share * count - 1e-9)


def tokens_to_keep(share: float, count: int, minimum: int) -> int:
    """A share of `count`, at least the minimum, at most all."""
    return min(count, max(minimum, share_of(share, count)))


def placement_of(pruner: TilePruner, projector: type[Projector]) -> Placement:
    """Where a pruner works beside this projector.

    Raises:
        ValueError: it was told to work where it cannot.
    """
    has_windows = issubclass(projector, GroupedProjector)
    placement: Placement = pruner.placement or ("pre_v2t_group" if has_windows else "post_v2t")
    if placement != "post_v2t" and not has_windows:
        raise ValueError(
            f"placement={placement!r} drops patches before the projector, but {projector.__name__} needs the whole "
            "grid of them. Use placement=post_v2t."
        )
    return placement


def keep_top(scores_NU: Tensor, count: int | Tensor) -> Tensor:
    """The `count` highest of each row, bool `[N, U]`; the first of equals. A tensor `[N]` counts for each row."""
    order = scores_NU.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return rank < (count if isinstance(count, int) else count.view(-1, 1))


def keep_at_least(keep_NU: Tensor, scores_NU: Tensor, minimum: int) -> Tensor:
    """`keep_NU`; rows that keep fewer than `minimum` also keep their highest others, up to that number."""
    ahead = torch.where(keep_NU, torch.inf, scores_NU.float())
    return keep_NU | keep_top(ahead, minimum)


@lru_cache(maxsize=4096)
def _tile_noise(seed: int, tile: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1_000_003 * seed + tile)
    return torch.rand(count, generator=generator)

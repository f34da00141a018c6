"""From the pixels of tiles to the tokens of pages: vision encoder -> pruning -> projector -> compressor.

Shapes: tiles `[N, 3, S, S]` -> patches `[N, T, D]` -> projected `[N, T', D_text]`, with a mask of what pruning leaves
-> tokens `[S, D_text]` of all pages, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_managed_module

from llava_som.compressors.base import ProjectedTiles
from llava_som.projectors.base import GroupedProjector, window_index
from llava_som.pruning.attention import captured_attention
from llava_som.pruning.base import Choice, Placement, TilePruner, TileView, Units, placement_of
from llava_som.tiling import TileGrid
from llava_som.vision.features import encode_images

if TYPE_CHECKING:
    from llava_som.modeling import LlavaSomForConditionalGeneration


TILES_AT_ONCE = 64
"""Tiles of one run at inference. What a run computes on its way is freed before the next, so that memory grows with the
tokens of the pages, not with all hidden states of all their tiles."""


@dataclass(frozen=True)
class PageTokens:
    """The vision tokens of some pages.

    Attributes:
        features: of those that pruning leaves, `[sum(keep), D_text]`, page by page.
        keep: which of the pages' placeholders stay, bool `[S]`; None when all do.
        choice: what the pruner decided about each tile, without `features`; None without a pruner.
    """

    features: Tensor
    keep: Tensor | None = None
    choice: Choice | None = None

    @classmethod
    def joined(cls, runs: Sequence[PageTokens]) -> PageTokens:
        """The tokens of several runs, one after the other."""
        features, keep = torch.cat([run.features for run in runs]), None
        if any(run.keep is not None for run in runs):
            all_of = partial(torch.ones, dtype=torch.bool, device=features.device)
            keep = torch.cat([all_of(len(run.features)) if run.keep is None else run.keep for run in runs])
        choices = [run.choice for run in runs if run.choice is not None]
        return cls(features, keep, Choice.joined(choices) if choices else None)


def encode_pages(
    model: LlavaSomForConditionalGeneration, pixel_values: Tensor, pages: Sequence[TileGrid]
) -> PageTokens:
    """Encode tiles and make the tokens of their pages.

    All tiles go through in one run where gradients are wanted, or where ranks gather weights together, as they must
    then run the same modules equally often; otherwise page by page, about `TILES_AT_ONCE` tiles a run.

    Args:
        model: whose vision path is run.
        pixel_values: `[N, 3, S, S]`, page by page, a page's global tile first.
        pages: how each page is cut; their tiles add up to N.

    Raises:
        ValueError: another number of tiles than the pages have, or what the pruner asks of the encoder is not there.
    """
    tiles = sum(page.num_tiles for page in pages)
    if len(pixel_values) != tiles:
        raise ValueError(
            f"pixel_values holds {len(pixel_values)} tiles, image_grids asks for {tiles}. Give both as the processor "
            "made them."
        )
    if torch.is_grad_enabled() or _is_sharded(model):
        return _encoded(model, pixel_values, pages)
    runs = list(pages_in_runs(pages, TILES_AT_ONCE))
    parts = pixel_values.split([sum(page.num_tiles for page in run) for run in runs])
    encoded = [_encoded(model, part, run) for part, run in zip(parts, runs, strict=True)]
    return encoded[0] if len(encoded) == 1 else PageTokens.joined(encoded)


def pages_in_runs(pages: Sequence[TileGrid], limit: int) -> Iterator[Sequence[TileGrid]]:
    """Successive pages of at most `limit` tiles together; a larger page is alone."""
    start = tiles = 0
    for number, page in enumerate(pages):
        if number > start and tiles + page.num_tiles > limit:
            yield pages[start:number]
            start, tiles = number, 0
        tiles += page.num_tiles
    yield pages[start:]


def _is_sharded(model: Any) -> bool:
    return is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model) or isinstance(model, FSDPModule)


def _encoded(model: LlavaSomForConditionalGeneration, pixel_values: Tensor, pages: Sequence[TileGrid]) -> PageTokens:
    """`encode_pages` in one run."""
    grid, config, projector = model.config.token_grid, model.config, model.multi_modal_projector
    pruner = model.pruner if isinstance(model.pruner, TilePruner) else None
    layers = pruner.layers() if pruner else ()
    with captured_attention(model.vision_tower, layers, grid.num_prefix_tokens) as attention:
        patches = encode_images(
            model.vision_tower,
            pixel_values,
            config.vision_feature_layer,
            grid,
            config.keep_prefix_tokens,
            config.vision_final_norm,
        )
    count = config.token_count
    if pruner is None:
        projected = ProjectedTiles(projector(patches, (grid.rows, grid.cols)), pages, (count.rows, count.cols))
        features, _ = model.compressor(projected)
        return PageTokens(features)
    pruning = _Pruning(pruner, projector, (grid.rows, grid.cols), (count.rows, count.cols))
    tokens, keep, choice = pruning(patches, pixel_values, attention, pages, model.training)
    features, keep = model.compressor(ProjectedTiles(tokens, pages, (count.rows, count.cols), keep))
    return PageTokens(features if keep is None else features[keep], keep, choice)


@dataclass(frozen=True)
class _Pruning:
    """A pruner in front of a projector; called with patches, it gives projected tokens and what is left of them."""

    pruner: TilePruner
    projector: Any
    grid: tuple[int, int]
    out_grid: tuple[int, int]

    def __call__(
        self, patches: Tensor, pixel_values: Tensor, attention: dict, pages: Sequence[TileGrid], training: bool
    ) -> tuple[Tensor, Tensor | None, Choice]:
        """`[N, T, D]` to tokens `[N, T' + special, D_text]`, their mask (None: all stay) and the choice."""
        placement = placement_of(self.pruner, type(self.projector))
        unit_grid = unit_grid_of(placement, self.grid, self.out_grid)
        units = units_in(self.grid, unit_grid, patches.device)
        if placement == "pre_v2t":
            features = patches
        elif placement == "pre_v2t_group":
            features = self.projector.windows_of(patches, self.grid).flatten(2)
        else:
            features = self.projector(patches, self.grid)[:, : units.count]
        view = TileView(
            features, units, pixel_values, attention, pages, self.grid, unit_grid, training and torch.is_grad_enabled()
        )
        choice = choose(self.pruner, view)
        tokens, keep = self._projected(placement, choice)
        tokens = self.projector.with_special(tokens)
        special = keep.new_ones(len(keep), tokens.shape[1] - keep.shape[1])
        choice = replace(choice, features=tokens.new_empty(0))  # patches of all tiles, of no use any more
        return tokens, None if keep.all() else torch.cat([keep, special], dim=1), choice

    def _projected(self, placement: Placement, choice: Choice) -> tuple[Tensor, Tensor]:
        """Tokens `[N, T', D_text]`, of which those that `keep` `[N, T']` leaves are meant."""
        keep, features = choice.keep, choice.features
        if placement == "post_v2t":
            return features, keep
        size = self.projector.window_size[0] * self.projector.window_size[1]
        if placement == "pre_v2t":
            by_window = window_index(*self.grid, *self.projector.window_size).flatten().to(keep.device)
            return regrouped(self.projector, features[:, by_window], keep[:, by_window], size)
        if keep.all():
            return self.projector.project_windows(features.unflatten(2, (size, -1))), keep
        return _scattered(self.projector.project_windows(features[keep].unflatten(1, (size, -1))), keep), keep


def regrouped(projector: GroupedProjector, patches: Tensor, keep: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What is left of the patches in groups of `size`, in their order, the last one filled up with its last patch.

    Args:
        projector: makes a token of each group.
        patches: `[N, T, D]`.
        keep: bool `[N, T]`, at least one in each row.
        size: patches in a group; divides T.

    Returns:
        Tokens `[N, T / size, D_text]`, and which of them are meant: the first `ceil(kept / size)` of each row.
    """
    kept = keep.sum(dim=1, keepdim=True)
    order = (~keep).int().argsort(dim=1, stable=True)
    places = torch.arange(keep.shape[1], device=keep.device).expand_as(keep)
    source = order.gather(1, torch.minimum(places, kept - 1))
    groups = patches.gather(1, source.unsqueeze(-1).expand_as(patches)).unflatten(1, (-1, size))
    is_meant = places[:, ::size] < kept
    if is_meant.all():
        return projector.project_windows(groups), is_meant
    return _scattered(projector.project_windows(groups[is_meant]), is_meant), is_meant


def choose(pruner: TilePruner, view: TileView) -> Choice:
    """The pruner's choice, in which global tiles are whole where they are to be spared."""
    choice = pruner.choose(view)
    if pruner.apply_to == "all":
        return choice
    spared = view.is_global()
    features = torch.where(spared.view(-1, 1, 1), view.features, choice.features)
    return Choice(choice.keep | spared.unsqueeze(1), features, choice.scores, choice.density)


def unit_grid_of(placement: Placement, grid: tuple[int, int], out_grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of what is kept or dropped as a whole: patches, or the projector's tokens."""
    return grid if placement == "pre_v2t" else out_grid


def units_in(grid: tuple[int, int], unit_grid: tuple[int, int], device: torch.device) -> Units:
    """Units over a grid of patches; a patch belongs to the cell of `unit_grid` in which its corner lies."""
    rows = torch.arange(grid[0], device=device) * unit_grid[0] // grid[0]
    cols = torch.arange(grid[1], device=device) * unit_grid[1] // grid[1]
    return Units(unit_grid[0] * unit_grid[1], (rows.unsqueeze(1) * unit_grid[1] + cols).flatten())


def _scattered(tokens: Tensor, keep: Tensor) -> Tensor:
    """Tokens `[sum(keep), D]` at their places, `[N, T, D]`, zero elsewhere."""
    whole = tokens.new_zeros(*keep.shape, tokens.shape[-1])
    return whole.masked_scatter(keep.unsqueeze(-1), tokens)

"""Pages to token maps: by the vision path of a checkpoint, or by pixels alone.

A pruner that looks at nothing but pixels and places needs no weights, so what it leaves of a page can be shown offline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from llava_som.configuration import LlavaSomConfig
from llava_som.image_processing import LlavaSomImageProcessor
from llava_som.inference import Assistant
from llava_som.page_encoder import choose, encode_pages, unit_grid_of, units_in
from llava_som.projectors import PROJECTORS
from llava_som.pruning import PRUNERS, build_pruner, named_pruner
from llava_som.pruning.base import Choice, Pruner, TilePruner, TileView
from llava_som.tiling import SINGLE_TILE, TileGrid, Tiling
from llava_som.token_map import Box, TileLayout, TokenMap
from llava_som.vision.grid import input_size


class PageReader(ABC):
    """Makes the token map of a page."""

    @abstractmethod
    def read(self, page: Image.Image) -> TokenMap:
        """The token map of an RGB page."""


@dataclass(frozen=True)
class PixelReader(PageReader):
    """Reads pages without a checkpoint, as a model of these sizes would; the defaults are DocOwl 1.5's.

    Attributes:
        tiling: how pages are cut.
        tile_size: side of a tile, pixels.
        patch_size: side of a patch, pixels.
        projector: a name, or `{"type": name, **options}`.
        pruning: the same for a pruner that needs no model; None: nothing is dropped.

    Raises:
        ValueError: sizes or a pruner that do not fit, or a pruner that needs a model.
    """

    tiling: Tiling = field(default_factory=Tiling)
    tile_size: int = 448
    patch_size: int = 14
    projector: str | dict[str, Any] = "h_reducer"
    pruning: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.patch_size <= self.tile_size:
            raise ValueError(f"patch_size={self.patch_size}: must be from 1 to the tile size, {self.tile_size} pixels.")
        _ = self._layout.out_grid
        if self._pruner is not None:
            self._layout.placement(self._pruner)

    @cached_property
    def _layout(self) -> TileLayout:
        side = self.tile_size // self.patch_size
        projector, options = PROJECTORS.resolve(self.projector)
        return TileLayout((side, side), PROJECTORS.named(self.projector), projector.num_special(**options))

    @cached_property
    def _pruner(self) -> TilePruner | None:
        if self.pruning is None:
            return None
        pruner = _tile_pruner(build_pruner(named_pruner(self.pruning)))
        if pruner.layers():
            raise ValueError(
                f"{_label(self.pruning)} chooses by the attention of a vision encoder. Name a checkpoint with --model, "
                "or take a pruner that needs none: blank_patch, uniform_stride or random."
            )
        return pruner

    @cached_property
    def _image_processor(self) -> LlavaSomImageProcessor:
        return LlavaSomImageProcessor(self.tile_size, asdict(self.tiling), OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)

    def read(self, page: Image.Image) -> TokenMap:
        """The token map of an RGB page, `before` and `after` those of its tiles together."""
        grid = self._image_processor.plan(*page.size)
        choice = None if self._pruner is None else self._choice(page, grid, self._pruner)
        tiles = self._layout.tiles(grid, self._pruner, choice)
        return TokenMap(
            page=grid,
            tile_size=self.tile_size,
            frame=(0, 0, *page.size),
            tiles=tiles,
            before=sum(tile.before for tile in tiles),
            after=sum(tile.after for tile in tiles),
            pruner=_label(self.pruning),
        )

    def _choice(self, page: Image.Image, grid: TileGrid, pruner: TilePruner) -> Choice:
        pixel_values: Tensor = self._image_processor(page, return_tensors="pt")["pixel_values"]
        layout = self._layout
        unit_grid = unit_grid_of(layout.placement(pruner), layout.grid, layout.out_grid)
        units = units_in(layout.grid, unit_grid, pixel_values.device)
        unknown = torch.full((len(pixel_values), units.count, 1), torch.nan)
        choice = choose(pruner, TileView(unknown, units, pixel_values, {}, [grid], layout.grid, unit_grid, False))
        if choice.scores.isnan().any():
            raise ValueError(
                f"{_label(self.pruning)} chooses by the features of a vision encoder. Name a checkpoint with --model."
            )
        return choice


@dataclass(frozen=True)
class ModelReader(PageReader):
    """Reads pages with the vision path of a checkpoint.

    Attributes:
        assistant: model and processor.
        prunes: run the vision path and say what its pruner leaves; otherwise only how pages are cut.

    Raises:
        ValueError: `prunes` with a model that drops nothing, or only inside its decoder.
    """

    assistant: Assistant
    prunes: bool = True

    def __post_init__(self) -> None:
        if self.prunes:
            _tile_pruner(self.assistant.model.pruner)

    def read(self, page: Image.Image) -> TokenMap:
        """The token map of an RGB page, `before` and `after` as the decoder counts them."""
        config, processor = self.assistant.model.config, self.assistant.processor
        is_tiled = config.tiling is not None
        grid = processor.image_processor.plan(*page.size) if is_tiled else SINGLE_TILE
        before = after = sum(config.token_count.span_lengths(grid))
        pruner = choice = None
        if self.prunes:
            pruner = self.assistant.model.pruner
            choice, after = self._choice(page, grid)
        return TokenMap(
            page=grid,
            tile_size=input_size(config.vision_config),
            frame=(0, 0, *page.size) if is_tiled else seen_area(processor.image_processor, *page.size),
            tiles=_layout_of(config).tiles(grid, pruner, choice),
            before=before,
            after=after,
            pruner=_label(config.pruning) if self.prunes else None,
            compressor=config.compressor["type"],
        )

    @torch.inference_mode()
    def _choice(self, page: Image.Image, grid: TileGrid) -> tuple[Choice | None, int]:
        """The pruner's choice and the number of tokens left."""
        model = self.assistant.model
        pixel_values = self.assistant.processor.image_processor([page], return_tensors="pt")["pixel_values"]
        tokens = encode_pages(model, pixel_values.to(model.device, model.dtype), [grid])
        return tokens.choice, len(tokens.features)


def seen_area(image_processor: Any, width: int, height: int) -> Box:
    """What of an image that is not tiled the encoder sees: padded to a square, cut to its middle, or all of it.

    Args:
        image_processor: one of transformers'.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        (left, top, right, bottom) in pixels of the image; beyond it is padding.
    """
    if getattr(image_processor, "do_pad", False):
        side = max(width, height)
        left, top = -((side - width) // 2), -((side - height) // 2)
        return (left, top, left + side, top + side)
    if not getattr(image_processor, "do_center_crop", False):
        return (0, 0, width, height)
    size, crop = dict(image_processor.size), dict(image_processor.crop_size)
    short = size.get("shortest_edge")
    across = crop["width"] * (min(width, height) / short if short else width / size["width"])
    down = crop["height"] * (min(width, height) / short if short else height / size["height"])
    return ((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)


def _layout_of(config: LlavaSomConfig) -> TileLayout:
    grid = config.token_grid
    return TileLayout((grid.rows, grid.cols), config.projector, config.token_count.num_special)


def _tile_pruner(pruner: Pruner | None) -> TilePruner:
    """A pruner whose choice shows on the page, or a ValueError."""
    drawable = ", ".join(name for name in PRUNERS.names() if issubclass(PRUNERS.get(name), TilePruner))
    if pruner is None:
        raise ValueError(f"Nothing is dropped by this model. Name a pruner with --pruning: {drawable}; or omit --kept.")
    if not isinstance(pruner, TilePruner):
        raise ValueError(
            f"{type(pruner).__name__} chooses inside the decoder, by the question too: a page alone does not show what "
            f"stays. Pruners that can be drawn, with --pruning: {drawable}."
        )
    return pruner


def _label(pruning: str | dict[str, Any] | None) -> str | None:
    """A pruner and its options in a few words."""
    if pruning is None:
        return None
    named = PRUNERS.named(pruning)
    options = [f"{key}={value}" for key, value in named.items() if key != "type"]
    return f"{named['type']} ({', '.join(options)})" if options else named["type"]

"""Pages to tiles of pixels. How a page is cut is decided by `plan_tiles` alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_transforms import to_pil_image
from transformers.image_utils import ImageInput, make_flat_list_of_images

from llava_som.tiling import TileGrid, Tiling, plan_tiles

__all__ = ["LlavaSomImageProcessor", "TileGrid", "plan_tiles"]


class LlavaSomImageProcessor(PilBackend):
    """Cuts pages into tiles as DocOwl does: resized without regard to their shape, never padded.

    Args:
        tile_size: side of a tile in pixels; the vision encoder's image size.
        tiling: options of `llava_som.tiling.Tiling`.
        image_mean: of each channel, for values from 0 to 1.
        image_std: of each channel.
    """

    model_input_names = ["pixel_values", "image_grids"]  # noqa: RUF012
    resample = Image.Resampling.BICUBIC
    image_mean: list[float]
    image_std: list[float]

    def __init__(
        self,
        tile_size: int = 448,
        tiling: dict[str, Any] | None = None,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_mean=image_mean or [0.5] * 3, image_std=image_std or [0.5] * 3, **kwargs)
        self.tile_size = tile_size
        self.tiling = dict(tiling or {})

    def plan(self, width: int, height: int) -> TileGrid:
        """How a page of this size is cut."""
        return Tiling.parse(self.tiling).plan(width, height, self.tile_size)

    def preprocess(self, images: ImageInput, *args: Any, **kwargs: Any) -> BatchFeature:
        """Tiles of all images, one image after the other.

        Args:
            images: one, a list, or lists of images, as elsewhere in transformers.
            *args: ignored.
            **kwargs: `return_tensors`; other options of image processors are those of this object.

        Returns:
            `pixel_values`, a list of `[3, S, S]` (a tensor `[N, 3, S, S]` with `return_tensors`): a page's global tile
            first, then its crops row by row; and `image_grids`, `[P, 2]`, rows and columns of crops of each image.
        """
        flat: Any = make_flat_list_of_images(images)
        pages = [_rgb(image) for image in flat]
        plans = [self.plan(*page.size) for page in pages]
        tiles = [tile for page, plan in zip(pages, plans, strict=True) for tile in self._tiles(page, plan)]
        grids = np.array([[plan.rows, plan.cols] for plan in plans])
        return BatchFeature({"pixel_values": tiles, "image_grids": grids}, tensor_type=kwargs.get("return_tensors"))

    def _tiles(self, page: Image.Image, plan: TileGrid) -> list[Tensor]:
        """Normalised tiles `[3, S, S]`, float32."""
        side = self.tile_size
        crops = self._pixels(page, plan.cols * side, plan.rows * side)
        crops = crops.unflatten(1, (plan.rows, side)).unflatten(3, (plan.cols, side))
        tiles = list(crops.permute(1, 3, 0, 2, 4).flatten(0, 1))
        return [self._pixels(page, side, side), *tiles] if plan.has_global else tiles

    def _pixels(self, page: Image.Image, width: int, height: int) -> Tensor:
        resized = np.asarray(page.resize((width, height), self.resample))
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (self.image_mean, self.image_std))
        return torch.from_numpy(resized.copy()).permute(2, 0, 1).float().sub_(mean).div_(std)


def _rgb(image: Any) -> Image.Image:
    return (image if isinstance(image, Image.Image) else to_pil_image(image)).convert("RGB")

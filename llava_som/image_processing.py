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

from llava_som.images import to_rgb
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

    def preprocess(self, images: ImageInput, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        """Tiles of all images, one image after the other.

        Args:
            images: one, a list, or lists of images, as elsewhere in transformers.
            **kwargs: `return_tensors`.

        Raises:
            ValueError: other options of image processors; here they are those of the object.

        Returns:
            `pixel_values`, a list of `[3, S, S]` (a tensor `[N, 3, S, S]` with `return_tensors`): a page's global tile
            first, then its crops row by row; and `image_grids`, `[P, 2]`, rows and columns of crops of each image.
        """
        tensor_type = kwargs.pop("return_tensors", None)
        _refuse_options(kwargs)
        flat: Any = make_flat_list_of_images(images)
        pages = [_rgb(image) for image in flat]
        plans = [self.plan(*page.size) for page in pages]
        counts = [plan.num_tiles for plan in plans]
        tiles = torch.empty(sum(counts), 3, self.tile_size, self.tile_size)  # once: hundreds of pages take gigabytes
        for page, plan, place in zip(pages, plans, tiles.split(counts), strict=True):
            self._write_tiles(page, plan, place)
        grids = np.array([[plan.rows, plan.cols] for plan in plans], dtype=np.int64).reshape(-1, 2)
        pixel_values = list(tiles) if tensor_type is None else tiles
        return BatchFeature({"pixel_values": pixel_values, "image_grids": grids}, tensor_type=tensor_type)

    def _write_tiles(self, page: Image.Image, plan: TileGrid, tiles: Tensor) -> None:
        """Fill in the normalised tiles of a page, `[N, 3, S, S]`."""
        side = self.tile_size
        crops = self._pixels(page, plan.cols * side, plan.rows * side)
        crops = crops.unflatten(1, (plan.rows, side)).unflatten(3, (plan.cols, side))
        tiles[plan.has_global :].unflatten(0, (plan.rows, plan.cols)).copy_(crops.permute(1, 3, 0, 2, 4))
        if plan.has_global:
            tiles[0] = self._pixels(page, side, side)

    def _pixels(self, page: Image.Image, width: int, height: int) -> Tensor:
        resized = np.array(page.resize((width, height), self.resample))
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (self.image_mean, self.image_std))
        return torch.from_numpy(resized).permute(2, 0, 1).float().sub_(mean).div_(std)


def _rgb(image: Any) -> Image.Image:
    return to_rgb(image if isinstance(image, Image.Image) else to_pil_image(image))


def _refuse_options(given: dict[str, Any]) -> None:
    """A ValueError for what a caller asks of one call, and would not get."""
    if asked := [f"{name}={value!r}" for name, value in given.items() if value is not None]:
        raise ValueError(
            f"{', '.join(asked)}: pages are always cut into tiles as this image processor was made to. Leave it out, "
            "or make one with other tile_size, tiling, image_mean or image_std."
        )

"""The one call from an image and its regions to the marked image and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from llava_som.images import STORED_FORMATS, write_image

from .order import order_regions
from .placement import place_marks
from .presets import Preset, get_preset
from .record import MarkRecord, sidecar_path
from .region import Region
from .render import fit_image, render_marks


@dataclass(frozen=True)
class MarkedImage:
    """The drawing (RGB) and the record that ties every number in it to its region."""

    image: Image.Image
    record: MarkRecord

    def save(self, path: str | Path) -> Path:
        """Write the image (.jpg or .png) and its sidecar beside it; returns the sidecar's path."""
        path = Path(path)
        if path.suffix not in STORED_FORMATS:
            raise ValueError(f"{path}: a marked image is written as {' or '.join(STORED_FORMATS)}.")
        with path.open("wb") as file:
            write_image(self.image, file, path.suffix)
        return self.record.model_copy(update={"image": path.name}).save(sidecar_path(path))


def mark_image(
    image: Image.Image, regions: Sequence[Region], preset: str | Preset = "clear", seed: int = 0
) -> MarkedImage:
    """Resize the image as the preset says, number its regions, draw the numbers.

    Args:
        image: the clean image; any mode, drawn as RGB.
        regions: regions of this image, at its own size; none is fine and gives an image without marks.
        preset: a name in PRESETS, or a Preset of your own.
        seed: the seed of the run that found the regions; of the drawing, it decides a shuffled numbering.

    Returns:
        The marked image and its record. The same input gives the same bytes.

    Raises:
        ValueError: unknown preset; a region of an image of another size; an image too long and thin to be resized;
            a font that is missing or lacks a character.
        TypeError: `image` is a path or an array.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"The image is a {type(image).__name__}, not a PIL image. llava_som.images.open_image(path) opens a file, "
            "PIL.Image.fromarray(array) takes an array."
        )
    preset = get_preset(preset)
    for region in regions:
        if region.image_size != image.size:
            raise ValueError(
                f"{region.title} was made for an image of {region.image_size[0]}x{region.image_size[1]}, but this "
                f"image is {image.width}x{image.height}. Use a mask of this image, or region.resized({image.size})."
            )
    fitted = fit_image(image.convert("RGB"), preset)
    kept, skipped = order_regions([region.resized(fitted.size) for region in regions], preset)
    marks, without_room = place_marks(kept, preset, seed)
    skipped = sorted(skipped + without_room, key=lambda item: item.region.area)
    return MarkedImage(render_marks(fitted, marks, preset), MarkRecord.of(fitted.size, preset, seed, marks, skipped))

"""Opening image files safely: any mode becomes upright 8-bit RGB, any problem one error naming file and fix."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

MAX_PIXELS = 89_478_485  # Pillow's own default: a quarter of a gigabyte of RGB
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # not EPS: Pillow hands that to Ghostscript, which runs it
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
STORED_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("JPEG", {"quality": 90, "subsampling": 0}),  # full colour resolution keeps the edges of small digits
    ".png": ("PNG", {"compress_level": 1}),
}
"""The files we write, by suffix: Pillow's name of the format, and its options."""


class ImageError(ValueError):
    """An image file that cannot be used; the message names the file and says what to do."""


def resolve_inside(path: str | Path, root: str | Path) -> Path:
    """`root / path` as an absolute path; an ImageError when it leaves `root` ("../", an absolute path, a link)."""
    root = Path(root).resolve()
    try:
        resolved = (root / path).resolve()
    except (RuntimeError, OSError, ValueError) as error:  # links in a circle, a zero byte
        raise ImageError(f"{path!a}: leads to no file ({error}). Repair the link or the name.") from None
    if not resolved.is_relative_to(root):
        raise ImageError(f"{path}: lies outside the image root {root}. Use a path relative to the root.")
    return resolved


def open_image(path: str | Path, root: str | Path | None = None) -> Image.Image:
    """Read an image file as upright RGB.

    EXIF rotation is applied, 16-bit samples are scaled to 8, transparency is laid over white, and an animation
    gives its first frame.

    Args:
        path: the file, relative to `root` when that is given.
        root: folder the file may not leave.

    Raises:
        ImageError: missing, not an image, truncated, too large to be decoded safely, or outside `root`.
    """
    file = resolve_inside(path, root) if root is not None else Path(path)
    try:
        with strict_pillow(), Image.open(file, formats=FORMATS) as image:
            image.load()
            return to_rgb(image)
    except FileNotFoundError:
        raise ImageError(f"{file}: no such file. Check the path and the image root.") from None
    except IsADirectoryError:
        raise ImageError(f"{file}: is a folder, an image file was expected.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or MAX_PIXELS) // 1_000_000
        raise ImageError(f"{file}: has more than {limit} million pixels. Downscale the file first.") from None
    except PermissionError:
        raise ImageError(f"{file}: may not be read by this user. Change its permissions.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{file}: is not an image of a known format. Re-export it as PNG or JPEG.") from None
    except Exception as error:  # decoders let through what they ran into: struct.error, IndexError, KeyError, ...
        raise ImageError(f"{file}: is corrupt or cut short ({error}). Fetch or export it again.") from error


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Refuse cut-short and oversized files, whatever an imported library has switched off for the whole process.

    lmms-eval, for one, makes Pillow fill what is missing of a file with grey.
    """
    tolerant, limit = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, limit or MAX_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = tolerant, limit


def to_rgb(image: Image.Image) -> Image.Image:
    """An upright 8-bit RGB copy of an image of any Pillow mode; transparency is laid over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        samples = np.asarray(image).astype(np.float32) / 257.0
        return Image.fromarray(np.clip(samples.round(), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def write_image(image: Image.Image, file: IO[bytes], suffix: str) -> None:
    """Encode an image as a .jpg or .png file."""
    file_format, options = STORED_FORMATS[suffix]
    image.save(file, format=file_format, **options)


def list_images(folder: str | Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Every file under `folder` with such a suffix (recursive), sorted; an ImageError when there is no such folder.

    A broken link is listed too: opening it says that the file is missing, leaving it out would say nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder.")
    named = (file for file in folder.rglob("*") if file.suffix.lower() in suffixes)
    return sorted(file for file in named if file.is_file() or file.is_symlink())

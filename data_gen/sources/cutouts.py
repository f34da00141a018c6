"""Photos with captioned cut-outs pasted onto them: exact masks and exact names from any folder of transparent pictures.

Detectors and segmenters have long been trained on such pictures (Dwibedi et al., arXiv 1708.01642; Ghiasi et al.,
arXiv 2012.07177). What is in the photo itself has no mask and gets no number. A picture depends on the seed, its number
and the two folders. On Debian, `apt install tuxpaint-stamps-default` brings about 800 cut-outs, nearly all with
captions, to /usr/share/tuxpaint/stamps; what has no short name, or no transparency, is left out of them.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef, RegionSource, read_json, refuse_inside, require_text
from llava_som.config_file import option
from llava_som.images import FORMATS, ImageError, list_images, open_image
from llava_som.marks.region import Region

logger = logging.getLogger(__name__)

LARGEST = 1024  # long side in pixels of a cut-out in memory; 32 of them are at most 128 MiB
MOST_ENLARGED = 2.0  # times its own size; a small cut-out stays small instead of becoming a blur
TRIES = 20  # places tried for one cut-out before it is left out
SHOWS = 128  # alpha from which a pixel counts as the cut-out's

PHRASE_END = re.compile(r"[.!?…:;]+(?:\s|$)|\s*[—–(]")
ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)
NUMBER_AT_END = re.compile(r"\s*\d+$")


@SOURCES.register("cutouts")
@dataclass(frozen=True, kw_only=True)
class CutoutSource(RegionSource):
    """Captioned cut-outs (pictures with transparency) pasted onto photos: exact masks and names."""

    transient_fields: ClassVar[frozenset[str]] = frozenset({"count"})
    whole_folders: ClassVar[tuple[str, ...]] = ("cutouts", "images")

    cutouts: Path = option(help="folder of cut-outs; captions from <file>.txt, captions.json or the file's name")
    images: Path = option(help="folder of photos to paste them onto, each used equally often")
    count: int = option(1000, help="how many pictures")
    seed: int = option(0, help="the run's seed; pictures of two seeds share nothing")
    objects: tuple[int, int] = option(
        (2, 6), help="fewest and most cut-outs in a picture; fewer where no place is left"
    )
    scale: tuple[float, float] = option(
        (0.2, 0.45), help="long side of a cut-out, as a share of the photo's short side"
    )
    rotate: tuple[float, float] = option((-15.0, 15.0), help="turned by an angle between these, in degrees")
    max_name_words: int = option(6, help="leave out cut-outs whose caption, up to the first full stop, is longer")
    flip: bool = option(False, help="mirror half of them; false because cut-outs may show letters")
    min_visible: float = option(0.6, help="the share of each cut-out that later ones may not cover")
    feather: float = option(1.0, help="how softly edges fade into the photo, in pixels")
    jitter: float = option(0.0, help="change brightness, contrast and saturation by up to this share each")
    long_side: int = option(1024, help="larger photos are shrunk to this first")

    def __post_init__(self) -> None:
        for key in ("cutouts", "images"):
            if not getattr(self, key).is_dir():
                raise ValueError(f"{key}={getattr(self, key)}: no such folder.")
        for key in ("count", "long_side", "max_name_words"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}: has to be at least 1.")
        if self.seed < 0 or self.feather < 0:
            raise ValueError(f"seed={self.seed}, feather={self.feather}: cannot be less than 0.")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f"objects={list(self.objects)}: give the fewest and the most, at least 1.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale={list(self.scale)}: give the smallest and the largest share, between 0 and 1.")
        if self.rotate[0] > self.rotate[1]:
            raise ValueError(f"rotate={list(self.rotate)}: give the smallest angle and then the largest.")
        if not 0 < self.min_visible <= 1 or not 0 <= self.jitter < 1:
            raise ValueError(f"min_visible={self.min_visible}, jitter={self.jitter}: shares, between 0 and 1.")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each picture; its path is the photo that is pasted onto."""
        photos = list_images(self.images)
        if not photos:
            raise ValueError(f"images={self.images}: holds no image file.")
        if not self.files:
            raise ValueError(f"cutouts={self.cutouts}: holds no image file with transparency and a short name.")
        paths = [photo.relative_to(self.images) for photo in photos]
        return [ImageRef(f"cutouts-{number:06d}", paths[number % len(paths)]) for number in range(self.count)]

    def load(self, ref: ImageRef) -> Image.Image:
        """The photo with the cut-outs on it."""
        return compose(self, ref)[0]

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """What is visible of each cut-out, in the order of pasting."""
        return list(compose(self, ref)[1])

    def refuse_output(self, out: Path) -> None:
        """A ValueError where writing to `out` would change what this source finds."""
        for folder in (self.cutouts, self.images):
            refuse_inside(out, folder)

    @property
    def files(self) -> tuple[Path, ...]:
        """The cut-outs that can be used, in a fixed order."""
        return tuple(self.names)

    @cached_property
    def names(self) -> dict[Path, str]:
        """What each cut-out is called, in a fixed order. Those that cannot be used are left out, which is logged once.

        Every file is opened for it (800 in about 1.5 s), so that none costs a picture later. Pickling keeps the result:
        workers do not look again.
        """
        names: dict[Path, str] = {}
        nameless: list[Path] = []
        unusable: dict[Path, ImageError] = {}
        for file in list_images(self.cutouts):
            try:
                read_cutout(file)
                name = self._name(file)
            except ImageError as error:
                unusable[file] = error
                continue
            if name:
                names[file] = name
            else:
                nameless.append(file)
        said = []
        if nameless:
            said.append(f"no name of at most {self.max_name_words} words for {named(nameless)}")
        if unusable:
            said.append(f"of no use: {named([*unusable])}, the first because {next(iter(unusable.values()))}")
        if said:
            everything = len(names) + len(nameless) + len(unusable)
            logger.warning("%d of %d cut-outs are left out; %s", everything - len(names), everything, "; ".join(said))
        return names

    def _name(self, file: Path) -> str:
        """What the cut-out in `file` is called; "" when its caption is no short name."""
        caption = self._captions.get(file.relative_to(self.cutouts).as_posix())
        return name_from(caption_beside(file) if caption is None else caption, file, self.max_name_words)

    @cached_property
    def _captions(self) -> dict[str, str]:
        """captions.json, {file: caption}, if the folder has one."""
        file = self.cutouts / "captions.json"
        if not file.exists():
            return {}
        captions = read_json(file)
        if not isinstance(captions, dict) or not all(isinstance(text, str) for text in captions.values()):
            raise ValueError(f'{file}: is not a list of captions. Write {{"apple.png": "A red apple."}}.')
        if missing := [name for name in captions if not (self.cutouts / name).is_file()]:
            raise ValueError(f"{file}: {missing[0]!r} is no file in {self.cutouts}.")
        return captions


@lru_cache(maxsize=2)
def compose(source: CutoutSource, ref: ImageRef) -> tuple[Image.Image, tuple[Region, ...]]:
    """The picture of `ref`, and what is visible of each cut-out in it, in the order of pasting."""
    rng = np.random.default_rng([source.seed, int(ref.id.rpartition("-")[2])])
    photo = open_image(ref.path or ref.id, root=source.images)
    photo.thumbnail((source.long_side, source.long_side), Image.Resampling.LANCZOS)
    count = int(rng.integers(source.objects[0], source.objects[1] + 1))
    files = source.files
    chosen = rng.choice(len(files), count, replace=count > len(files))
    owner = np.full((photo.height, photo.width), -1, np.int32)  # which pasted cut-out each pixel shows
    pasted: list[Path] = []
    areas: list[int] = []
    for file in (files[index] for index in chosen):
        cutout = varied(read_cutout(file), source, min(photo.size), rng)
        mask = np.asarray(cutout.getchannel("A")) >= SHOWS
        place = free_place(mask, owner, source.min_visible * np.array(areas), rng)
        if place is None:
            continue
        photo.paste(cutout, place, cutout)
        window(owner, place, mask)[mask] = len(pasted)
        pasted.append(file)
        areas.append(int(mask.sum()))
    regions = [
        Region.from_mask(
            owner == index,
            name=source.names[file],
            source="cutouts",
            id=file.relative_to(source.cutouts).as_posix(),
        )
        for index, file in enumerate(pasted)
    ]
    return photo, tuple(regions)


def free_place(
    mask: np.ndarray, owner: np.ndarray, least: np.ndarray, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Where a cut-out can go, x and y of its corner; None when no place is found.

    Args:
        mask: the cut-out, bool [h, w].
        owner: which earlier cut-out each pixel of the photo shows, [H, W]; -1 for none.
        least: how many pixels of each earlier cut-out have to stay visible, [n].
        rng: where the places come from.
    """
    free = np.subtract(owner.shape, mask.shape)
    if not mask.any() or free.min() < 0:
        return None
    shown = np.bincount(owner[owner >= 0], minlength=len(least))
    for _ in range(TRIES):
        y, x = (int(rng.integers(0, room + 1)) for room in free)
        under = window(owner, (x, y), mask)[mask]
        if (shown - np.bincount(under[under >= 0], minlength=len(least)) >= least).all():
            return x, y
    return None


def window(owner: np.ndarray, place: tuple[int, int], mask: np.ndarray) -> np.ndarray:
    """The part of `owner` [H, W] that a mask [h, w] with its corner at `place` covers; a view."""
    x, y = place
    return owner[y : y + mask.shape[0], x : x + mask.shape[1]]


def varied(cutout: Image.Image, source: CutoutSource, short_side: int, rng: np.random.Generator) -> Image.Image:
    """A cut-out resized, mirrored, turned, recoloured and softened as the options say and chance decides."""
    share, angle = rng.uniform(*source.scale), rng.uniform(*source.rotate)
    mirrored = source.flip and rng.random() < 0.5
    factor = min(share * short_side / max(cutout.size), MOST_ENLARGED)
    size = [max(1, round(side * factor)) for side in cutout.size]
    cutout = cutout.resize(size, Image.Resampling.LANCZOS)
    if mirrored:
        cutout = ImageOps.mirror(cutout)
    if angle:
        cutout = cutout.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        cutout = cutout.crop(cutout.getchannel("A").getbbox())
    alpha = cutout.getchannel("A")
    if source.jitter:
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            cutout = change(cutout).enhance(1 + rng.uniform(-source.jitter, source.jitter))
    if source.feather:  # inwards only: the colours outside a cut-out are nobody's
        padded = ImageOps.expand(alpha, border=math.ceil(3 * source.feather))
        blurred = ImageOps.crop(padded.filter(ImageFilter.GaussianBlur(source.feather)), math.ceil(3 * source.feather))
        alpha = ImageChops.darker(alpha, blurred)
    cutout.putalpha(alpha)
    return cutout


@lru_cache(maxsize=32)
def read_cutout(file: Path) -> Image.Image:
    """A cut-out as RGBA, cut to what shows of it and at most LARGEST pixels long; an ImageError when it is none."""
    require_text(str(file))
    open_image(file)  # says what is wrong with a file; it lays what is right over white, so that is read once more
    with Image.open(file, formats=FORMATS) as image:
        transparent = image.has_transparency_data
        cutout = ImageOps.exif_transpose(image).convert("RGBA")
    box = cutout.getchannel("A").point(lambda alpha: 255 * (alpha >= SHOWS)).getbbox()
    if not transparent or cutout.getchannel("A").getextrema()[0] >= SHOWS or box is None:
        raise ImageError(
            f"{file}: is no cut-out: nothing, or everything, is transparent. Remove the background, or the file."
        )
    cutout = cutout.crop(box)
    cutout.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return cutout


def caption_beside(file: Path) -> str | None:
    """The first line of <stem>.txt beside a cut-out; Tux Paint's <stem>_mirror.png shares the caption of <stem>.png."""
    text = file.with_suffix(".txt")
    if file.stem.endswith("_mirror") and not text.exists():
        text = file.with_name(file.stem.removesuffix("_mirror") + ".txt")
    try:
        with text.open(encoding="utf-8-sig") as lines:
            return lines.readline(1000)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{text}: the caption of {file.name} cannot be read ({error}).") from None


def name_from(caption: str | None, file: Path, max_words: int) -> str:
    """A caption as a name: "A red apple." -> "red apple"; "" where it has more than `max_words`.

    Without a word of caption, the file's name is the name.
    """
    phrase = PHRASE_END.split(" ".join((caption or "").split()), maxsplit=1)[0].strip("\"'“”‘’ .")
    name = ARTICLE.sub("", phrase)
    name = name or NUMBER_AT_END.sub("", re.sub(r"[_\W]+", " ", file.stem)).strip() or file.stem
    return name if len(name.split()) <= max_words else ""


def named(files: Sequence[Path]) -> str:
    """How many files there are and what the first of them are called: "64 (a.png, b.png, c.png ...)"."""
    return f"{len(files)} ({', '.join(file.name for file in files[:3])}{' ...' if len(files) > 3 else ''})"

"""Drawn scenes: coloured shapes with exact masks and names, the smallest world in which listing can be learnt.

Shapes sit on a jittered lattice, or anywhere (then later ones cover earlier ones). Nothing is anti-aliased, so a mask
is exactly the pixels of its object and the masks of a scene are disjoint. A scene depends on the seed and its number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef, RegionSource
from data_gen.sources.polygons import polygon_mask
from llava_som.config_file import option
from llava_som.marks.region import Region
from llava_som.registry import closest_match_message

# Bright on dark: a small model learns the shapes of such scenes many times faster than those of scenes on light grey.
COLOURS = {
    "red": (255, 60, 60),
    "green": (60, 200, 80),
    "blue": (80, 120, 255),
    "yellow": (255, 225, 60),
    "purple": (180, 80, 230),
    "orange": (255, 150, 40),
    "cyan": (60, 215, 230),
    "pink": (255, 160, 200),
}


def _ring(corners: int, radii: Sequence[float] = (1.0,), turn: float = 0.0) -> np.ndarray:
    """Corners around (0, 0), the first one up (turned by `turn` steps), at radii that repeat."""
    angle = 2 * np.pi * (np.arange(corners) + turn) / corners
    radius = np.resize(np.asarray(radii), corners)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


_ARM = 0.4  # half width of the cross's arms over its half length
OUTLINES = {
    "circle": _ring(40),
    "square": _ring(4, turn=0.5),
    "triangle": _ring(3),
    "diamond": _ring(4),
    "star": _ring(10, radii=(1.0, 0.5)),
    "cross": np.array([[_ARM, -1], [_ARM, -_ARM], [1, -_ARM], [1, _ARM], [_ARM, _ARM], [_ARM, 1]]),
}
OUTLINES["cross"] = np.concatenate([OUTLINES["cross"], -OUTLINES["cross"]])

# A texture says which pixels [h, w] of an object take the darker shade, from their columns and rows and a stripe width.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "plain": lambda x, y, width: np.zeros_like(x, dtype=bool),
    "striped": lambda x, y, width: (x + y) // width % 2 == 0,
    "dotted": lambda x, y, width: (x % (2 * width) < width) & (y % (2 * width) < width),
    "checked": lambda x, y, width: (x // width + y // width) % 2 == 0,
}


@dataclass(frozen=True)
class DrawnObject:
    """One object of a scene: the pixels that show it, bool [size, size], its texture (if any) and colour, its shape."""

    mask: np.ndarray
    attributes: tuple[str, ...]
    shape: str

    @property
    def name(self) -> str:
        """What it is called: "red circle", "striped red circle"."""
        return " ".join([*self.attributes, self.shape])


@SOURCES.register("scenes")
@dataclass(frozen=True, kw_only=True)
class SceneSource(RegionSource):
    """Drawn scenes of coloured shapes with exact masks and names such as "red circle"."""

    transient_fields: ClassVar[frozenset[str]] = frozenset({"count"})  # scene 5 is the same whatever comes after it
    image_suffix: ClassVar[str] = ".png"

    count: int = option(1000, help="how many scenes")
    seed: int = option(0, help="the run's seed; scenes of two seeds share nothing")
    size: int = option(96, help="side of the square canvas in pixels")
    objects: tuple[int, int] = option((2, 5), help="fewest and most objects; all counts between are equally likely")
    area: tuple[float, float] = option((0.036, 0.047), help="smallest and largest object, as a share of the canvas")
    colours: tuple[str, ...] = option(tuple(COLOURS), help="colours to draw from")
    shapes: tuple[str, ...] = option(tuple(OUTLINES), help="shapes to draw from")
    textures: tuple[str, ...] = option(("plain",), help="plain, striped, dotted, checked; other than plain is named")
    layout: Literal["grid", "free"] = option(
        "grid", help="grid: one object in a cell; free: anywhere, covering one another"
    )
    grid: int = option(3, help="cells along each side of the grid")
    jitter: float = option(0.02, help="how far an object leaves the middle of its cell, as a share of the canvas")
    background: tuple[int, int] = option((28, 36), help="darkest and lightest background, of 255")
    noise: float = option(4.0, help="standard deviation of the background's noise, of 255")

    def __post_init__(self) -> None:
        known: dict[str, Collection[str]] = {"colour": COLOURS, "shape": OUTLINES, "texture": TEXTURES}
        for kind, names in known.items():
            for name in getattr(self, f"{kind}s"):
                if name not in names:
                    raise ValueError(closest_match_message(kind, name, names))
            if not getattr(self, f"{kind}s"):
                raise ValueError(f"{kind}s=[]: at least one is needed.")
        for key in ("count", "size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}: has to be at least 1.")
        if self.jitter > 0.5:
            raise ValueError(f"jitter={self.jitter}: a share of the canvas, at most 0.5.")
        for key in ("seed", "noise", "jitter"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}={getattr(self, key)}: cannot be less than 0.")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f"objects={list(self.objects)}: give the fewest and the most, at least 1.")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area={list(self.area)}: give the smallest and the largest share, between 0 and 1.")
        if not 0 <= self.background[0] <= self.background[1] <= 255:
            raise ValueError(f"background={list(self.background)}: give the darkest and the lightest, 0 to 255.")
        if self.layout == "grid" and self.objects[1] > self.grid**2:
            cells = f"a grid of {self.grid}x{self.grid} holds {self.grid**2}"
            raise ValueError(f"objects={list(self.objects)}: {cells}; raise grid=.")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each scene."""
        return [ImageRef(f"scene-{number:06d}") for number in range(self.count)]

    def load(self, ref: ImageRef) -> Image.Image:
        """The drawn scene."""
        return draw_scene(self, int(ref.id.rpartition("-")[2]))[0]

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """What is visible of each object; an object that is wholly covered is left out."""
        drawn = draw_scene(self, int(ref.id.rpartition("-")[2]))[1]
        return [
            Region.from_mask(thing.mask, name=thing.name, source="scenes", id=str(k), attributes=thing.attributes)
            for k, thing in enumerate(drawn)
        ]


@lru_cache(maxsize=2)
def draw_scene(options: SceneSource, number: int) -> tuple[Image.Image, tuple[DrawnObject, ...]]:
    """Scene `number` of these options and what can be seen in it, in drawing order."""
    rng = np.random.default_rng([options.seed, number])
    shade = rng.uniform(*options.background) + rng.uniform(-4, 4, 3)
    canvas = np.clip(shade + rng.normal(0, options.noise, (options.size, options.size, 1)), 0, 255).astype(np.uint8)
    drawn: list[DrawnObject] = []
    for centre in _centres(options, rng):
        thing = _draw_object(options, rng, centre, canvas)
        covered = [replace(other, mask=other.mask & ~thing.mask) for other in drawn]
        drawn = [other for other in covered if other.mask.any()] + [thing]
    return Image.fromarray(canvas), tuple(drawn)


def _centres(options: SceneSource, rng: np.random.Generator) -> np.ndarray:
    """[n, 2] x, y of the objects' centres in pixels."""
    count = int(rng.integers(options.objects[0], options.objects[1] + 1))
    if options.layout == "free":
        return options.size * rng.uniform(0.12, 0.88, (count, 2))
    cells = rng.permutation(options.grid**2)[:count]
    middle = (np.stack([cells % options.grid, cells // options.grid], axis=1) + 0.5) / options.grid
    return options.size * (middle + rng.uniform(-options.jitter, options.jitter, (count, 2)))


def _draw_object(options: SceneSource, rng: np.random.Generator, centre: np.ndarray, canvas: np.ndarray) -> DrawnObject:
    """Draw one random object onto `canvas` [size, size, 3] in place."""
    colour, shape, texture = (str(rng.choice(names)) for names in (options.colours, options.shapes, options.textures))
    area = options.size**2 * rng.uniform(*options.area)
    mask = polygon_mask(centre + _outline_of_area(shape, area), (options.size, options.size))
    rgb = np.clip(np.array(COLOURS[colour]) + rng.integers(-12, 13, 3), 0, 255)
    rows, columns = np.nonzero(mask)
    dark = TEXTURES[texture](columns, rows, max(2, options.size // 40))
    canvas[mask] = np.where(dark[:, None], rgb * 0.55, rgb).astype(np.uint8)
    return DrawnObject(mask, (colour,) if texture == "plain" else (texture, colour), shape)


@cache
def _unit_area(shape: str) -> float:
    x, y = OUTLINES[shape].T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _outline_of_area(shape: str, area: float) -> np.ndarray:
    """Vertices [N, 2] around (0, 0) of a shape of `area` square pixels."""
    return OUTLINES[shape] * np.sqrt(area / _unit_area(shape))

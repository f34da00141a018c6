"""Two small drawn pictures, a garden and a kitchen table, for the worked examples that a model is shown.

They are drawn and not photographed so that they can live here as a few lines, and they are marked with the very preset
of the picture that is asked about, so the tags in the examples look like the tags in the question.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from llava_som.marks.region import Region

SIZE = (640, 480)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """A flat shape: `kind` is "rectangle", "ellipse" (left, top, right, bottom) or "polygon" (x, y, x, y, ...)."""

    of: str
    kind: str
    at: tuple[int, ...]
    colour: Colour


GARDEN = (
    Shape("sky", "rectangle", (0, 0, 639, 269), (176, 214, 240)),
    Shape("sun", "ellipse", (530, 22, 606, 98), (250, 214, 70)),
    Shape("grass", "rectangle", (0, 270, 639, 479), (108, 160, 84)),
    Shape("wall", "rectangle", (300, 150, 520, 340), (232, 214, 180)),
    Shape("roof", "polygon", (276, 152, 410, 56, 544, 152), (178, 62, 52)),
    Shape("door", "rectangle", (392, 236, 446, 340), (112, 74, 44)),
    Shape("window", "rectangle", (318, 184, 372, 240), (250, 250, 250)),
    Shape("window", "rectangle", (324, 190, 366, 234), (120, 166, 200)),
    Shape("tree", "rectangle", (114, 226, 144, 344), (104, 76, 52)),
    Shape("tree", "ellipse", (44, 78, 214, 254), (54, 112, 62)),
    Shape("behind fence", "ellipse", (556, 236, 626, 330), (84, 84, 96)),
    Shape("fence", "rectangle", (536, 286, 639, 298), (246, 246, 240)),
    Shape("fence", "rectangle", (536, 326, 639, 338), (246, 246, 240)),
    *(Shape("fence", "rectangle", (x, 274, x + 14, 356), (246, 246, 240)) for x in (540, 564, 588, 612)),
    Shape("dog", "ellipse", (196, 372, 300, 424), (150, 98, 52)),
    Shape("dog", "ellipse", (282, 346, 330, 390), (150, 98, 52)),
    *(Shape("dog", "rectangle", (x, 410, x + 11, 452), (150, 98, 52)) for x in (208, 228, 262, 280)),
    Shape("ball", "ellipse", (372, 412, 412, 452), (214, 56, 60)),
)
TABLE = (
    Shape("wall", "rectangle", (0, 0, 639, 259), (224, 218, 204)),
    Shape("picture", "rectangle", (60, 40, 200, 140), (94, 66, 42)),
    Shape("picture", "rectangle", (72, 52, 188, 128), (156, 192, 206)),
    Shape("picture", "polygon", (72, 128, 116, 76, 150, 128), (92, 122, 92)),
    Shape("edge", "rectangle", (0, 190, 44, 330), (128, 128, 132)),
    Shape("table", "rectangle", (0, 260, 639, 479), (168, 116, 70)),
    Shape("vase", "polygon", (470, 190, 524, 190, 544, 300, 450, 300), (84, 120, 178)),
    Shape("flower", "rectangle", (494, 104, 500, 192), (72, 132, 66)),
    Shape("flower", "ellipse", (464, 52, 530, 116), (238, 196, 64)),
    Shape("book", "polygon", (300, 420, 420, 400, 452, 452, 320, 474), (70, 90, 84)),
    Shape("plate", "ellipse", (204, 318, 400, 432), (246, 246, 248)),
    Shape("red apple", "ellipse", (232, 318, 296, 382), (200, 44, 48)),
    Shape("green apple", "ellipse", (304, 326, 364, 386), (128, 178, 66)),
    Shape("mug", "ellipse", (132, 308, 182, 368), (52, 92, 164)),
    Shape("table", "ellipse", (144, 320, 170, 356), (168, 116, 70)),  # seen through the handle
    Shape("mug", "rectangle", (72, 292, 152, 386), (52, 92, 164)),
)


def draw(shapes: tuple[Shape, ...]) -> tuple[Image.Image, list[Region]]:
    """The picture, and a region for each named thing: exactly the pixels that show it."""
    picture = Image.new("RGB", SIZE)
    owner = Image.new("L", SIZE, 255)
    names = list(dict.fromkeys(shape.of for shape in shapes))
    canvas, owners = ImageDraw.Draw(picture), ImageDraw.Draw(owner)
    for shape in shapes:
        getattr(canvas, shape.kind)(shape.at, fill=shape.colour)
        getattr(owners, shape.kind)(shape.at, fill=names.index(shape.of))
    pixels = np.asarray(owner)
    return picture, [
        Region.from_mask(pixels == number, name=name, source="example") for number, name in enumerate(names)
    ]

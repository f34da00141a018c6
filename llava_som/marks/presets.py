"""How marks are made, as data: one frozen row per published or recommended recipe.

`paper` is SoM-LLaVA's training data (arXiv 2404.16375; sizes read from its released code): white numbers of 18 pt at
100 dpi on black, nothing else drawn. Known defects of that code (no mask is an error, tags leave the frame, the box
sits below its peak) are not part of the recipe. `clear` is for a model that has to read the tags: digits keep their
height through the model's own resizing, tags never cover one another. `ui` outlines the elements of a screenshot and
labels them from outside (Magma, arXiv 2502.13130, Algorithm 1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llava_som.registry import closest_match_message

# Told apart with any common colour blindness: Okabe & Ito (2008) without black; Paul Tol's "vibrant" without grey.
PALETTES = {
    "okabe_ito": ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
    "vibrant": ("#0077bb", "#ee7733", "#009988", "#cc3311", "#ee3377", "#33bbee"),
}


@dataclass(frozen=True)
class Preset:
    """One way to mark an image. The defaults of the fields that have one are what `paper` does.

    Lengths are pixels of the marked image. Where `font_px` is None, `digit_px`, `padding` and `line_width` are pixels
    of what the model sees instead, and grow with the image.

    Args:
        name: how people ask for it.
        short_side: the image is resized so that its shorter side has this length. None: it keeps its size, unless it
            is smaller than the model's input; then it is enlarged to that, as the model would do.
        min_area: a region with fewer pixels left after subtraction gets no mark.
        font_px: font size. None: the smallest at which digits are `digit_px` high for the model.
        padding: space around the text inside its tag.
        text_rgb: colour of the number.
        tag_rgb: colour of the box behind it.
        tag_opacity: 0 (invisible) to 1 (nothing shines through).
        digit_px: height of a digit after the model has padded the image to a square and resized it.
        model_input_side: side of that square.
        min_share: a region with less of the image left after subtraction gets no mark.
        max_share: a region that covers more of the image gets no mark.
        nms_iou: of two regions with a larger intersection over union one is kept. None: both are.
        containment: of two regions of nearly equal area, one with a larger share inside the other, one is kept; a part
            much smaller than its whole always stays. None: both are.
        subtract: a region loses the pixels of all smaller ones.
        max_tags: at most so many marks: those with the best scores when all have one, else those with most pixels left.
        numbering: by `area`, smallest first; `reading`, lines from top to bottom and from left to right; `shuffled`, a
            permutation that depends on the seed and the regions.
        labels: `numbers`, `letters` (a to z, aa, ab, ...), or texts of your own, the first for mark 1.
        font: path of a TrueType or OpenType font; None: the one embedded in Pillow, Latin only.
        placement: `peak`, centred on the region's deepest pixel whatever lies there; `apart`, there or deep inside or
            else beside the region with a leader line, never over another tag; `anchors`, outside a corner of its box.
        tag_fit: with `apart`, a region smaller than so many times its tag, or hidden by it for more than three
            quarters, gets the tag beside it. 0: none does.
        tag_colour: `fixed`; `background`, text and box exchange colours where the box would vanish; `palette`, the box
            has its mark's colour, the text is black or white.
        draw: any of `mark` (the tag), `box`, `mask` (filled), `boundary` (of the mask).
        palette: name of a palette or a list of colours like "#e69f00"; mark 1 has the first, and so on, around.
        mask_opacity: of the filled mask, 0 to 1.
        line_width: of boxes, boundaries and leader lines.

    Raises:
        ValueError: a value that cannot be drawn.
    """

    name: str
    short_side: int | None
    min_area: int
    font_px: int | None
    padding: int
    text_rgb: tuple[int, int, int]
    tag_rgb: tuple[int, int, int]
    tag_opacity: float
    digit_px: int = 11
    model_input_side: int = 336
    min_share: float = 0.0
    max_share: float = 1.0
    nms_iou: float | None = None
    containment: float | None = None
    subtract: bool = True
    max_tags: int | None = None
    numbering: Literal["area", "reading", "shuffled"] = "area"
    labels: Literal["numbers", "letters"] | tuple[str, ...] = "numbers"
    font: str | None = None
    placement: Literal["peak", "apart", "anchors"] = "peak"
    tag_fit: float = 0.0
    tag_colour: Literal["fixed", "background", "palette"] = "fixed"
    draw: tuple[Literal["mark", "box", "mask", "boundary"], ...] = ("mark",)
    palette: str | tuple[str, ...] = "okabe_ito"
    mask_opacity: float = 0.4
    line_width: int = 2

    def __post_init__(self) -> None:
        for field in ("short_side", "font_px", "digit_px", "model_input_side", "line_width"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: at least 1 pixel is needed.")
        if self.max_tags is not None and self.max_tags < 1:
            raise ValueError(f"max_tags={self.max_tags}: at least 1 is needed; null for no limit.")
        for field in ("min_area", "padding"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field}={getattr(self, field)}: pixels cannot be fewer than 0.")
        for field in ("text_rgb", "tag_rgb"):
            if not all(0 <= value <= 255 for value in getattr(self, field)):
                raise ValueError(f"{field}={list(getattr(self, field))}: red, green and blue are 0 to 255.")
        for field in ("tag_opacity", "mask_opacity"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}={getattr(self, field)}: 0 is invisible, 1 opaque.")
        for field in ("min_share", "max_share", "nms_iou", "containment"):
            if getattr(self, field) is not None and not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}={getattr(self, field)}: a share, from 0 to 1.")
        if self.tag_fit < 0:
            raise ValueError(f"tag_fit={self.tag_fit}: times the tag's area, at least 0.")
        if not self.draw:
            raise ValueError("draw=[]: nothing would be drawn; name at least one of mark, box, mask, boundary.")
        if isinstance(self.labels, tuple):
            _check_labels(self.labels)
        object.__setattr__(self, "palette", _colours(self.palette))

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """The palette as (red, green, blue)."""
        return tuple((int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)) for text in self.palette)

    @property
    def mark_limit(self) -> int | None:
        """The most marks an image can get: `max_tags`, or fewer when fewer labels are given; None: no limit."""
        limits = [self.max_tags, len(self.labels) if isinstance(self.labels, tuple) else None]
        return min((limit for limit in limits if limit is not None), default=None)


def _check_labels(labels: tuple[str, ...]) -> None:
    if not labels or len(set(labels)) < len(labels) or any(not label.strip() or "\n" in label for label in labels):
        raise ValueError(f"labels={list(labels)}: give at least one, each of its own, on one line and not blank.")


def _colours(palette: str | tuple[str, ...]) -> tuple[str, ...]:
    """The colours themselves, so that a sidecar does not depend on what a name stands for later."""
    if isinstance(palette, str):
        if palette not in PALETTES:
            raise ValueError(closest_match_message("palette", palette, PALETTES))
        return PALETTES[palette]
    if not palette or any(not re.fullmatch(r"#[0-9a-fA-F]{6}", colour) for colour in palette):
        raise ValueError(f"palette={list(palette)}: colours look like '#e69f00', and at least one is needed.")
    return tuple(colour.lower() for colour in palette)


PRESETS = {
    preset.name: preset
    for preset in [
        Preset(
            name="paper",
            short_side=640,
            min_area=110,
            font_px=25,
            padding=1,
            text_rgb=(255, 255, 255),
            tag_rgb=(0, 0, 0),
            tag_opacity=0.8,
        ),
        Preset(
            name="clear",
            short_side=None,
            min_area=1,
            font_px=None,
            padding=1,
            text_rgb=(255, 255, 255),
            tag_rgb=(0, 0, 0),
            tag_opacity=0.9,
            min_share=0.0005,  # 7.5 x 7.5 of 336 x 336 pixels, half the side of a vision transformer's patch
            nms_iou=0.8,
            containment=0.9,
            max_tags=20,
            placement="apart",
            tag_fit=0.6,
            tag_colour="background",
            line_width=1,
        ),
        Preset(
            name="ui",
            short_side=None,
            min_area=1,
            font_px=None,
            padding=2,
            text_rgb=(255, 255, 255),
            tag_rgb=(0, 0, 0),
            tag_opacity=1.0,
            model_input_side=1024,  # screenshots are read at a higher resolution than photos
            nms_iou=0.8,
            containment=0.9,
            subtract=False,
            numbering="reading",
            placement="anchors",
            tag_colour="palette",
            draw=("mark", "box"),
            palette="vibrant",
            line_width=2,
        ),
    ]
}


def get_preset(preset: str | Preset) -> Preset:
    """The preset of that name; a Preset passes through. An unknown name is a ValueError with the closest one."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(closest_match_message("preset", preset, PRESETS))
    return PRESETS[preset]

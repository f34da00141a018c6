"""How marks are made, as data: one frozen row per published or recommended recipe.

`paper` is SoM-LLaVA's training data (arXiv 2404.16375; sizes read from its released code): white numbers of 18 pt at
100 dpi on black, nothing else drawn. Known defects of that code (no mask is an error, tags leave the frame, the box
sits below its peak) are not part of the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_som.registry import closest_match_message


@dataclass(frozen=True)
class Preset:
    """One way to mark an image. Lengths are pixels of the marked image.

    Args:
        name: how people ask for it.
        short_side: the image is resized so that its shorter side has this length.
        min_area: a region with fewer pixels left after subtraction gets no mark.
        font_px: font size.
        padding: space around the text inside its tag.
        text_rgb: colour of the number.
        tag_rgb: colour of the box behind it.
        tag_opacity: 0 (invisible) to 1 (nothing shines through).

    Raises:
        ValueError: a value that cannot be drawn.
    """

    name: str
    short_side: int
    min_area: int
    font_px: int
    padding: int
    text_rgb: tuple[int, int, int]
    tag_rgb: tuple[int, int, int]
    tag_opacity: float

    def __post_init__(self) -> None:
        for field in ("short_side", "font_px"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: at least 1 pixel is needed.")
        for field in ("min_area", "padding"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field}={getattr(self, field)}: pixels cannot be fewer than 0.")
        for field in ("text_rgb", "tag_rgb"):
            if not all(0 <= value <= 255 for value in getattr(self, field)):
                raise ValueError(f"{field}={list(getattr(self, field))}: red, green and blue are 0 to 255.")
        if not 0 <= self.tag_opacity <= 1:
            raise ValueError(f"tag_opacity={self.tag_opacity}: 0 is invisible, 1 opaque.")


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
        )
    ]
}


def get_preset(preset: str | Preset) -> Preset:
    """The preset of that name; a Preset passes through. An unknown name is a ValueError with the closest one."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(closest_match_message("preset", preset, PRESETS))
    return PRESETS[preset]

"""Attention over an image as pictures: heat maps by layer range and token, sinks outlined, top patches numbered.

Heat is drawn over a grey copy of the image in a scale that grows in lightness (inferno), so that it is read without
colour vision as well. Patches are drawn as what they are, without smoothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from llava_som.attention_maps import AttentionMaps, top_tokens
from llava_som.marks.presets import PALETTES
from llava_som.token_places import TokenPlaces
from llava_som.visualize import VEIL

Rgb = tuple[int, int, int]

INFERNO = ((0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10),
           (249, 201, 50), (252, 255, 164))  # fmt: skip
"""Nine even steps of matplotlib's map of that name."""
HEAT_OPACITY = (0.4, 0.85)
"""Of no and of full heat."""
DIMMED = 0.75
"""Brightness of the grey image under the heat: white must not pass for heat."""
SINK: Rgb = (70, 220, 255)
TOP_OF_QUESTION, TOP_OF_TAG = 20, 5  # patches, as in the listing paper's figures (arXiv 2404.16375)
TOKENS_OF_A_SHEET = 40
_PAPER, _PADDING, _FAINT, _INK = ((grey, grey, grey) for grey in (255, 205, 110, 30))
_WIDTH, _GAP, _MARGIN = 1560, 14, 24
_WIDEST_PANEL, _WIDEST_TOKEN = 420, 186
_FONT, _SMALL = 17, 14
_LARGE_CELL = 22  # pixels from which on an outline has an edge


@dataclass(frozen=True)
class Panel:
    """A picture with a line above it and lines below."""

    title: str
    picture: Image.Image
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Panels under a heading; they wrap where they are too many for a line."""

    heading: str
    panels: list[Panel]


def draw_attention(maps: AttentionMaps, tokens: int = 16) -> Image.Image:
    """All on one sheet: layer ranges, top patches, and the first tokens of the answer; RGB."""
    rows = [*_range_rows(maps), *_patch_rows(maps)]
    shown = range(min(tokens, len(maps.tokens)))
    return _sheet(maps, [*rows, *_token_rows(maps, shown)])


def draw_ranges(maps: AttentionMaps) -> Image.Image:
    """Heat of question and answer by layer range, without and with the intervention side by side; RGB."""
    return _sheet(maps, _range_rows(maps))


def draw_patches(maps: AttentionMaps) -> Image.Image:
    """The top patches of the question, and of each tag that the answer names; RGB."""
    return _sheet(maps, _patch_rows(maps))


def draw_tokens(maps: AttentionMaps) -> Iterator[Image.Image]:
    """Heat of each token of the answer, a sheet for each `TOKENS_OF_A_SHEET` of them; RGB."""
    for start in range(0, len(maps.tokens), TOKENS_OF_A_SHEET):
        stop = min(start + TOKENS_OF_A_SHEET, len(maps.tokens))
        yield _sheet(maps, _token_rows(maps, range(start, stop)))


def main_range(maps: AttentionMaps) -> int:
    """Number of the range that single tokens are drawn of: the middle one."""
    return len(maps.ranges) // 2


def framed(image: Image.Image, places: TokenPlaces, longest: int | None = None) -> Image.Image:
    """What the tiles show of an image, padding included, RGB; shrunk to a longest side where one is given."""
    left, top, right, bottom = places.frame
    scale = 1.0 if longest is None else min(1.0, longest / max(right - left, bottom - top))
    size = (max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top))))
    whole = Image.new("RGB", size, _PADDING)
    seen = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    x_scale, y_scale = size[0] / (right - left), size[1] / (bottom - top)
    shown = (max(1, round(x_scale * (seen[2] - seen[0]))), max(1, round(y_scale * (seen[3] - seen[1]))))
    corner = (round(x_scale * (seen[0] - left)), round(y_scale * (seen[1] - top)))
    whole.paste(image.resize(shown, Image.Resampling.LANCZOS, box=seen), corner)
    return whole


def heat_over(image: Image.Image, places: TokenPlaces, values_N: np.ndarray, most: float) -> Image.Image:
    """Heat of image tokens over an image.

    Args:
        image: RGB, of the frame (`framed`).
        places: of the tokens.
        values_N: attention to each, `[N]`.
        most: what the lightest colour stands for; more is cut.

    Returns:
        RGB of the image's size; places that pruning dropped are under the veil of `visualize`.
    """
    heat, is_covered = places.raster(values_N, image.size)
    share = (heat / most).clip(0, 1) if most > 0 else np.zeros_like(heat)
    photo = DIMMED * np.asarray(image.convert("L"), float)[..., None]
    opacity = (HEAT_OPACITY[0] + (HEAT_OPACITY[1] - HEAT_OPACITY[0]) * share)[..., None]
    mixed = (1 - opacity) * photo + opacity * _coloured(share)
    mixed[~is_covered] = 0.45 * photo[~is_covered] + 0.55 * np.array(VEIL)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _coloured(share: np.ndarray) -> np.ndarray:
    steps = np.linspace(0, 1, len(INFERNO))
    return np.stack([np.interp(share, steps, channel) for channel in zip(*INFERNO, strict=True)], axis=-1)


def outline(
    picture: Image.Image, places: TokenPlaces, tokens: Sequence[int], colour: Rgb, inset: Sequence[int] = ()
) -> None:
    """Outline the cells of tokens, each so many pixels further in as `inset` says."""
    draw = ImageDraw.Draw(picture)
    for place, token in enumerate(tokens):
        by = inset[place] if inset else 0
        for x0, y0, x1, y1 in _drawn_cells(picture, places, token):
            box = (x0 + by, y0 + by, max(x0 + by + 1, x1 - by), max(y0 + by + 1, y1 - by))
            is_large = min(box[2] - box[0], box[3] - box[1]) >= _LARGE_CELL
            if is_large:
                draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=(0, 0, 0), width=4)
            draw.rectangle(box, outline=colour, width=2 if is_large else 1)


def _drawn_cells(picture: Image.Image, places: TokenPlaces, token: int) -> list[tuple[int, int, int, int]]:
    """The corners of a token's cells in a picture of the frame, the last pixels included."""
    left, top, right, bottom = places.frame
    x, y = picture.width / (right - left), picture.height / (bottom - top)
    return [
        (round(x * (a - left)), round(y * (b - top)), round(x * (c - left)) - 1, round(y * (d - top)) - 1)
        for a, b, c, d in places.cells(token)
    ]


def _draw_labels(picture: Image.Image, labels: Sequence[tuple[tuple[int, int], str, Rgb]]) -> None:
    """Labels at corners, each moved down where it would cover one before it."""
    draw, taken = ImageDraw.Draw(picture), list[tuple[float, float, float, float]]()
    for (x, y), text, colour in labels:
        width, height = round(_font(_SMALL).getlength(text)) + 6, _SMALL + 5
        x, y = min(x, picture.width - width), min(y, picture.height - height)
        while any(x < right and left < x + width and y < low and high < y + height for left, high, right, low in taken):
            y += height
        taken.append((x, y, x + width, y + height))
        is_light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 110
        draw.rectangle(taken[-1], fill=colour, outline=(0, 0, 0))
        draw.text((x + 3, y + 1), text, (0, 0, 0) if is_light else (255, 255, 255), _font(_SMALL))


def scale_of(maps: AttentionMaps, number: int, both_N: Sequence[np.ndarray]) -> float:
    """What the lightest colour stands for: the most that any place but a sink gets, with or without intervention."""
    others = ~maps.is_sink[number] & maps.places.has_place
    chosen = others if others.any() else maps.places.has_place
    return max((float(maps.places.density(values)[chosen].max(initial=0.0)) for values in both_N), default=0.0)


def _range_rows(maps: AttentionMaps) -> list[Row]:
    rows = [("Question: mean over the prompt's tokens after the image", maps.of_question)]
    rows += [("Answer: mean over its tokens", maps.of_answer)] if maps.tokens else []
    size = _panel_size(maps, len(maps.ranges) * len(maps.sides), _WIDEST_PANEL)
    found = []
    for heading, of in rows:
        sides = [(name, of(weights)) for name, weights in maps.sides]
        panels = []
        for number, layers in enumerate(maps.ranges):
            most = scale_of(maps, number, [values[number] for _, values in sides])
            panels += [
                _heat_panel(maps, number, values[number], most, size, _titled(str(layers), side))
                for side, values in sides
            ]
        found.append(Row(heading, panels))
    return found


def _patch_rows(maps: AttentionMaps) -> list[Row]:
    size = _panel_size(maps, len(maps.ranges) * len(maps.sides), _WIDEST_PANEL)
    photo = framed(maps.image, maps.places).resize(size, Image.Resampling.LANCZOS)
    question, tags = [], []
    of_question, of_tag = top_counts(maps)
    for number, layers in enumerate(maps.ranges):
        for side, weights in maps.sides:
            title, picture = _titled(str(layers), side), photo.copy()
            best = top_tokens(maps.of_question(weights)[number], maps.places.has_place, of_question)
            outline(picture, maps.places, best, (255, 255, 255))
            question.append(Panel(title, picture))
            tags.append(Panel(title, _with_tags(photo.copy(), maps, weights, number, of_tag)))
    rows = [Row(f"Top {of_question} patches of the question, mean over its tokens", question)]
    if maps.tags:
        rows.append(Row(f"Top {of_tag} patches of each tag's number in the answer; the number is at the first", tags))
    return rows


def _with_tags(picture: Image.Image, maps: AttentionMaps, weights: np.ndarray, number: int, count: int) -> Image.Image:
    """The top patches of each tag, in its colour; those that tags share are outlined one inside the other."""
    colours = [tuple(ImageColor.getrgb(colour)) for colour in PALETTES["okabe_ito"]]
    uses: Counter[int] = Counter()
    labels = []
    for place, tag in enumerate(maps.tags):
        colour: Rgb = colours[place % len(colours)]  # type: ignore[assignment]
        best = top_tokens(maps.of_tokens(weights, tag.tokens)[number], maps.places.has_place, count)
        outline(picture, maps.places, best, colour, [3 * uses[token] for token in best])
        uses.update(best)
        labels += [(_drawn_cells(picture, maps.places, token)[-1][:2], str(tag.number), colour) for token in best[:1]]
    _draw_labels(picture, labels)
    return picture


def top_counts(maps: AttentionMaps) -> tuple[int, int]:
    """How many top patches are shown of the question and of a tag: the paper's numbers, fewer of a coarse grid."""
    placed = int(maps.places.has_place.sum())
    return min(TOP_OF_QUESTION, -(-placed // 4)), min(TOP_OF_TAG, -(-placed // 8))


def _token_rows(maps: AttentionMaps, shown: range) -> list[Row]:
    if not shown:
        return []
    number = main_range(maps)
    size = _panel_size(maps, 8, _WIDEST_TOKEN)
    panels = []
    for token in shown:
        sides = [(name, maps.of_tokens(weights, [token])[number]) for name, weights in maps.sides]
        most = scale_of(maps, number, [values for _, values in sides])
        text = maps.tokens[token].text
        titles = [f"{token + 1}  {_quoted(text)}", *(name for name, _ in sides[1:])]
        panels += [
            _heat_panel(maps, number, values, most, size, title, is_small=True)
            for title, (_, values) in zip(titles, sides, strict=True)
        ]
    which = f"Tokens {shown[0] + 1} to {shown[-1] + 1} of the answer's {len(maps.tokens)}, {maps.ranges[number]}"
    return [Row(which, panels)]


def _heat_panel(
    maps: AttentionMaps,
    number: int,
    values_N: np.ndarray,
    most: float,
    size: tuple[int, int],
    title: str,
    is_small: bool = False,
) -> Panel:
    photo = framed(maps.image, maps.places).resize(size, Image.Resampling.LANCZOS)
    picture = heat_over(photo, maps.places, values_N, most)
    sinks = maps.is_sink[number]
    outline(picture, maps.places, np.flatnonzero(sinks).tolist(), SINK)
    share = f"image {values_N.sum():.1%}" + (f", sinks {values_N[sinks].sum():.1%}" if sinks.any() else "")
    return Panel(title, picture, (share,) if is_small else (share, f"lightest: {most:.2%}"))


def _quoted(text: str) -> str:
    return f'"{text.strip()}"' if text.strip() else repr(text).replace("'", '"')


def _titled(layers: str, side: str) -> str:
    return f"{layers}, {side}" if side else layers


def _panel_size(maps: AttentionMaps, columns: int, widest: int) -> tuple[int, int]:
    left, top, right, bottom = maps.places.frame
    width = min(widest, (_WIDTH - (columns - 1) * _GAP) // columns)
    return width, max(1, round(width * (bottom - top) / (right - left)))


def has_dropped(maps: AttentionMaps) -> bool:
    """Whether pruning dropped tokens of the image."""
    return any(bool((view.tokens < 0).any()) for view in maps.places.views)


def caption_lines(maps: AttentionMaps) -> list[str]:
    """What the pictures show, in words."""
    lines = [
        "Colour: share of a token's attention that a patch gets, mean over heads and layers. Percentages below: share "
        "on the whole image (the rest is on text), and what the lightest colour stands for."
    ]
    if maps.after is not None:
        lines.append(f"All rows are of the answer without {maps.intervention}; both sides have one scale.")
    counts = ", ".join(
        f"{int(sinks.sum())} in {layers}" for layers, sinks in zip(maps.ranges, maps.is_sink, strict=True)
    )
    lines.append(f"Outlined as sinks: {maps.sinks_by}. There are {counts}.")
    return lines


def _sheet(maps: AttentionMaps, rows: Sequence[Row]) -> Image.Image:
    """Rows of panels under the question, the answers, the caption and the key."""
    texts = [(maps.question, _INK, _FONT + 5), (f"Answer: {maps.answer.strip() or '(none)'}", _INK, _FONT)]
    if maps.other_answer is not None:
        texts.append((f"Answer with {maps.intervention}: {maps.other_answer.strip() or '(none)'}", _INK, _FONT))
    texts += [(line, _FAINT, _SMALL) for line in caption_lines(maps)]
    blocks = [_text_block(text, colour, size) for text, colour, size in texts]
    blocks += [_key(maps), *(_row_block(row) for row in rows)]
    height = sum(block.height + _GAP for block in blocks)
    sheet = Image.new("RGB", (_WIDTH + 2 * _MARGIN, height + 2 * _MARGIN - _GAP), _PAPER)
    y = _MARGIN
    for block in blocks:
        sheet.paste(block, (_MARGIN, y))
        y += block.height + _GAP
    return sheet


def _text_block(text: str, colour: Rgb, font_px: int, most_lines: int = 8) -> Image.Image:
    lines = _wrapped(text, font_px, _WIDTH)
    if len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], lines[most_lines - 1] + " ..."]
    step = round(1.4 * font_px)
    block = Image.new("RGB", (_WIDTH, step * len(lines)), _PAPER)
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * step), line, colour, _font(font_px))
    return block


def _wrapped(text: str, font_px: int, width: int) -> list[str]:
    """Lines no wider than `width`; a word that is wider is cut."""
    lines = []
    for paragraph in text.strip().splitlines() or [""]:
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if _font(font_px).getlength(longer) > width and line:
                lines.append(line)
                longer = word
            line = longer
        lines.append(_clipped(line, font_px, width))
    return lines


def _row_block(row: Row) -> Image.Image:
    width, height = row.panels[0].picture.size
    columns = max(1, (_WIDTH + _GAP) // (width + _GAP))
    line = round(1.4 * _SMALL)
    step = line + height + line * len(row.panels[0].notes) + _GAP
    lines = -(-len(row.panels) // columns)
    heading = round(1.9 * _FONT)
    block = Image.new("RGB", (_WIDTH, heading + lines * step - _GAP), _PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((0, 4), _clipped(row.heading, _FONT, _WIDTH), _INK, _font(_FONT))
    for place, panel in enumerate(row.panels):
        x, y = place % columns * (width + _GAP), heading + place // columns * step
        draw.text((x, y), _clipped(panel.title, _SMALL, width), _INK, _font(_SMALL))
        block.paste(panel.picture, (x, y + line))
        for number, note in enumerate(panel.notes):
            draw.text((x, y + line * (number + 1) + height + 2), _clipped(note, _SMALL, width), _FAINT, _font(_SMALL))
    return block


def _key(maps: AttentionMaps) -> Image.Image:
    block = Image.new("RGB", (_WIDTH, round(1.6 * _SMALL)), _PAPER)
    draw = ImageDraw.Draw(block)
    bar = np.broadcast_to(_coloured(np.linspace(0, 1, 120)), (_SMALL, 120, 3)).astype(np.uint8)
    swatches = [(Image.fromarray(bar), "no attention to most")]
    if maps.is_sink.any():
        sink = Image.new("RGB", (26, _SMALL), (90, 90, 90))
        ImageDraw.Draw(sink).rectangle((0, 0, 25, _SMALL - 1), outline=SINK, width=2)
        swatches.append((sink, "sink"))
    if has_dropped(maps):
        swatches.append((Image.new("RGB", (26, _SMALL), VEIL), "dropped by pruning"))
    x = 0
    for swatch, text in swatches:
        block.paste(swatch, (x, 2))
        draw.text((x + swatch.width + 8, 0), text, _INK, _font(_SMALL))
        x += swatch.width + 8 + round(_font(_SMALL).getlength(text)) + 28
    return block


def _clipped(text: str, font_px: int, width: int) -> str:
    """Text no wider than `width`, with dots where it was cut."""
    if _font(font_px).getlength(text) <= width:
        return text
    while text and _font(font_px).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


@cache
def _font(font_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(font_px)

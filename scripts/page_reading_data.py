"""Synthetic pages to read: letters behind labels in small type, on pages of four layouts.

A page of 128 pixels is read in 2x2 tiles of 64; shrunk to one tile its glyphs are 4 pixels high. Letters are random, so
that nothing but the page says which they are, and each is asked for by the label printed before it, so that it is found
by content and not by its place in the prompt, which pruning changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LAYOUTS = ("dense", "half", "picture", "sparse")
LABELS = "123456789ABCDEFGHIJKLMNPQRSTUVWX"
LETTERS = "abdefhkmnpqrstwy"
GLYPH = 8  # pixels, the side of an encoder's patch
ROWS, COLUMNS = 8, 4  # cells of two lines and four glyphs; an entry begins one of the lines
PAGE_SIDE = ROWS * 2 * GLYPH
_SPARSE_ENTRIES = 6


@dataclass(frozen=True)
class Page:
    """A drawn page.

    Attributes:
        image: 128 x 128, grey.
        entries: the letter behind each label.
        corners: line and column of each label in glyphs, in the order of `entries`, `[entries, 2]`.
    """

    image: Image.Image
    entries: dict[str, str]
    corners: np.ndarray


def draw_page(rng: np.random.Generator, layout: str) -> Page:
    """A page; the same state of `rng` gives the same one.

    Args:
        rng: chooses entries, places and paper.
        layout: dense: an entry in each of the 32 cells; half: in those of the upper, lower, left or right half;
            picture: so too, and a picture without text in the other half; sparse: in 6 of them anywhere.

    Raises:
        ValueError: an unknown layout.
    """
    has_entry = _has_entry(rng, layout)
    cells = np.argwhere(has_entry)
    labels = rng.permutation(list(LABELS))[: len(cells)].tolist()
    entries = dict(zip(labels, rng.choice(list(LETTERS), len(labels)).tolist(), strict=True))
    corners = cells * (2, 4)
    corners[:, 0] += rng.integers(0, 2, len(cells))
    ink = np.zeros((PAGE_SIDE, PAGE_SIDE), dtype=np.float32)
    if layout == "picture":
        is_picture = ~has_entry.repeat(2 * GLYPH, axis=0).repeat(4 * GLYPH, axis=1)
        ink[is_picture] = _picture(rng)[is_picture]
    for (line, column), (label, letter) in zip(corners * GLYPH, entries.items(), strict=True):
        text = np.concatenate([_glyph(label), _glyph(letter)], axis=1)
        ink[line : line + GLYPH, column : column + text.shape[1]] = text
    paper = rng.normal(240, 4, ink.shape)
    pixels = (paper * (1 - ink) + 20 * ink).clip(0, 255).astype(np.uint8)
    return Page(Image.fromarray(pixels), entries, corners)


def draw_pages(seed: int, count: int) -> list[Page]:
    """Pages of all layouts in turn."""
    rng = np.random.default_rng(seed)
    return [draw_page(rng, LAYOUTS[number % len(LAYOUTS)]) for number in range(count)]


def _has_entry(rng: np.random.Generator, layout: str) -> np.ndarray:
    """Which cells hold an entry, bool `[ROWS, COLUMNS]`."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: allowed are {', '.join(LAYOUTS)}.")
    has_entry = np.full((ROWS, COLUMNS), layout == "dense")
    if layout == "sparse":
        has_entry.flat[rng.choice(has_entry.size, _SPARSE_ENTRIES, replace=False)] = True
    elif layout != "dense":
        halves = [np.s_[: ROWS // 2], np.s_[ROWS // 2 :], np.s_[:, : COLUMNS // 2], np.s_[:, COLUMNS // 2 :]]
        has_entry[halves[rng.integers(4)]] = True
    return has_entry


def _picture(rng: np.random.Generator) -> np.ndarray:
    """Smooth blobs of grey under a fine grain, without anything to read, 0 to 1, of the size of a page."""
    coarse = Image.fromarray(rng.uniform(0, 255, (8, 8)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((PAGE_SIDE, PAGE_SIDE), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return 0.8 * smooth + rng.uniform(0, 0.2, smooth.shape).astype(np.float32)


@cache
def _glyph(character: str) -> np.ndarray:
    """The ink of a character of DejaVu Sans Mono Bold, which matplotlib ships, 0 to 1, `[GLYPH, GLYPH]`."""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono-Bold.ttf")), 9)
    image = Image.new("L", (GLYPH, GLYPH))
    ImageDraw.Draw(image).text((GLYPH // 2, GLYPH - 1), character, fill=255, font=font, anchor="ms")
    return np.asarray(image, dtype=np.float32) / 255

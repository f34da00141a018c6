"""Synthetic pages to read: words with labels in small type, one glyph in each patch of 8 pixels.

A page of 128 pixels is read in 2 x 2 tiles of 64. Shrunk to one tile its glyphs are 4 pixels high, too small to read.
The words are random letters, so that nothing but the page says what they are, and each is asked for by the label
printed before it, so that it is found by content and not by its place in the prompt, which pruning changes.
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
GLYPH, ROWS, COLUMNS = 8, 16, 4  # pixels; lines of a page, words of a line
_WORD = 4 * GLYPH  # a label, two letters and a space


@dataclass(frozen=True)
class Page:
    """A drawn page.

    Attributes:
        image: 128 x 128, grey.
        words: the two letters behind each label.
        places: line and column of each label's word, in the order of `words`.
    """

    image: Image.Image
    words: dict[str, str]
    places: list[tuple[int, int]]


def draw_page(rng: np.random.Generator, layout: str) -> Page:
    """A page; the same state of `rng` gives the same one.

    Args:
        rng: chooses words, places and paper.
        layout: dense: every second line is full, 32 words; half: the upper, lower, left or right half of these;
            picture: half, and a picture without text on the rest; sparse: 6 words anywhere.
    """
    has_word = _has_word(rng, layout)
    places = [(int(row), int(column)) for row, column in np.argwhere(has_word)]
    labels = rng.permutation(list(LABELS))[: len(places)]
    words = {str(label): "".join(rng.choice(list(LETTERS), 2)) for label in labels}
    ink = np.zeros((ROWS * GLYPH, COLUMNS * _WORD), dtype=np.float32)
    if layout == "picture":
        ink[:] = _picture(rng, ink.shape) * _side_without(has_word)
    for (row, column), (label, letters) in zip(places, words.items(), strict=True):
        for position, character in enumerate(label + letters):
            left = column * _WORD + position * GLYPH
            ink[row * GLYPH : (row + 1) * GLYPH, left : left + GLYPH] = _glyph(character)
    paper = rng.normal(240, 4, ink.shape)
    pixels = (paper * (1 - ink) + 20 * ink).clip(0, 255).astype(np.uint8)
    return Page(Image.fromarray(pixels), words, places)


def _has_word(rng: np.random.Generator, layout: str) -> np.ndarray:
    """Which places hold a word, bool `[ROWS, COLUMNS]`."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: allowed are {', '.join(LAYOUTS)}.")
    full = np.zeros((ROWS, COLUMNS), dtype=bool)
    full[rng.integers(2) :: 2] = True
    if layout == "dense":
        return full
    if layout == "sparse":
        chosen = np.zeros_like(full)
        chosen.flat[rng.choice(np.flatnonzero(full), 6, replace=False)] = True
        return chosen
    side = rng.integers(4)
    part = [np.s_[: ROWS // 2], np.s_[ROWS // 2 :], np.s_[:, : COLUMNS // 2], np.s_[:, COLUMNS // 2 :]][side]
    full[part] = False
    return full


def _side_without(has_word: np.ndarray) -> np.ndarray:
    """1 where the half of a page without words is, pixels, `[128, 128]`."""
    halves = has_word.reshape(2, ROWS // 2, 2, COLUMNS // 2).any(axis=(1, 3))
    return (~halves).repeat(ROWS * GLYPH // 2, axis=0).repeat(COLUMNS * _WORD // 2, axis=1).astype(np.float32)


def _picture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Smooth blobs of grey under a fine grain, without anything to read, 0 to 1."""
    coarse = Image.fromarray(rng.uniform(0, 255, (8, 8)).astype(np.uint8))
    smooth = np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return 0.8 * smooth + rng.uniform(0, 0.2, smooth.shape).astype(np.float32)


@cache
def _glyph(character: str) -> np.ndarray:
    """The ink of a character of DejaVu Sans Mono Bold, which matplotlib ships, in a square of 8 pixels, 0 to 1."""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono-Bold.ttf")), 9)
    image = Image.new("L", (GLYPH, GLYPH))
    ImageDraw.Draw(image).text((GLYPH // 2, GLYPH - 1), character, fill=255, font=font, anchor="ms")
    return np.asarray(image, dtype=np.float32) / 255

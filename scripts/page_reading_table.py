"""The rows of the page-reading experiment as a page: means over seeds, and 95 % intervals over seeds and pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page_reading_data import LAYOUTS
from page_reading_methods import PRUNERS, SHARES, TRAINED, TRAINED_PRUNED

from eval.intervals import CONFIDENCE, RESAMPLES

QUESTIONS = 2  # to each page
PAGE = """# Where does each method lose? A page-reading experiment

{table}

Right answers in percent, mean over {seeds} seeds, and over all layouts its 95 % interval: a bootstrap that draws
seeds and test pages anew, {pages} pages of each layout with two questions each, the same for every method; guessing
gives 6. With so few seeds the interval says little about seeds that were not run. "Tokens" are the image tokens of a
page that a decoder layer sees, mean over layers.

Pages of 128 pixels are read in four tiles and a global one. They hold random letters, each behind a label by which it
is asked for: on dense pages there are 32, on half and picture pages 16, with the other half blank or a picture
without text, on sparse pages 6. Half the lines of a dense page are blank.

Tiny models: an encoder trained on glyphs, then frozen, and projector, compressor and decoder trained from scratch on
pages like these. Labels and letters lie on the grid of patches, both in one window of the 1x4 H-Reducer, and also of
2x2. Shares are of the crops' 64 tokens; the global tile's 16 stay. Pruners that have no number of tokens were set to
the share on pages that are not tested on.

Made by `python scripts/page_reading.py`; numbers and circumstances are in scripts/results/page_reading.json.
"""


def write_page(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """The table and what it means, as Markdown."""
    seeds = len({row["seed"] for row in rows})
    pages = len(rows[0]["right"][LAYOUTS[0]])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(PAGE.format(table=table(rows), seeds=seeds, pages=pages), encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each method, in the order of the method lists."""
    pruned = [f"{name} at {share:.0%}" for share in SHARES for name in PRUNERS]
    lines = [("method", "tokens", "right", *LAYOUTS), ("---",) * (3 + len(LAYOUTS))]
    for method in [*TRAINED, TRAINED_PRUNED, *pruned]:
        of_method = sorted((row for row in rows if row["method"] == method), key=lambda row: row["seed"])
        if of_method:
            lines.append((method, *_cells(of_method)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(of_method: Sequence[dict[str, Any]]) -> list[str]:
    digits = [[[int(digit) for digit in row["right"][layout]] for layout in LAYOUTS] for row in of_method]
    share = 100.0 * np.array(digits) / QUESTIONS
    low, high = seed_and_page_interval(share.reshape(len(share), -1))
    layouts = [f"{value:.0f}" for value in share.mean(axis=(0, 2))]
    tokens = np.mean([row["tokens"] for row in of_method])
    return [f"{tokens:.0f}", f"{share.mean():.0f} ({low:.0f}–{high:.0f})", *layouts]


def seed_and_page_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `[seeds, pages]`, both drawn anew, independently of each other.

    `eval.intervals` draws documents alone; here pages are the same for all seeds, and both are samples.
    """
    rng = np.random.default_rng(seed)
    seeds, pages = values.shape
    means = [values[rng.integers(0, seeds, seeds)][:, rng.integers(0, pages, pages)].mean() for _ in range(RESAMPLES)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)

"""The page-reading experiment runs end to end, keeps what it has measured, and goes on from there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
METHODS = ["h_reducer 1x4", "doc_compressor"]


def run(folder):
    places = ["--out", folder / "out.json", "--models", folder / "models"]
    command = [sys.executable, "scripts/read_pages.py", "--quick", "--seeds", "0", "--jobs", "1", *map(str, places)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads((folder / "out.json").read_text())


@pytest.mark.e2e
def test_every_method_and_pruner_is_measured_and_a_second_run_has_nothing_to_do(tmp_path):
    _, results = run(tmp_path)
    summary = results["summary"]
    assert set(METHODS) < set(summary)
    pruners = ("random", "blank_patch", "token_correlation", "hired", "fastv")
    assert {f"{name} at 50%" for name in pruners} < set(summary)
    assert summary["h_reducer 1x4"]["tokens"] == 80
    assert summary["doc_compressor"]["tokens"] == 16
    assert summary["random at 25%"]["tokens"] == 32
    said, again = run(tmp_path)
    assert "seed" not in said
    assert again["rows"] == results["rows"]


def test_the_words_of_a_page_are_where_it_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from read_pages_data import GLYPH, LAYOUTS, draw_page

    for layout, words in zip(LAYOUTS, (32, 16, 16, 6), strict=True):
        page = draw_page(np.random.default_rng(3), layout)
        assert len(page.words) == len(page.places) == words
        ink = 240 - np.asarray(page.image, dtype=int)
        for row, column in page.places:
            cell = ink[row * GLYPH : (row + 1) * GLYPH, 4 * column * GLYPH :][:, : 3 * GLYPH]
            assert all(part.max() > 120 for part in np.split(cell, 3, axis=1))  # a label and two letters
        if layout != "picture":
            printed = np.zeros_like(ink, dtype=bool)
            for row, column in page.places:
                printed[row * GLYPH : (row + 1) * GLYPH, 4 * column * GLYPH : (4 * column + 3) * GLYPH] = True
            assert np.abs(ink[~printed]).max() < 40  # paper

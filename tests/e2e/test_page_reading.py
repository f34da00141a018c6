"""The page-reading experiment, a few steps of it: all rows are there, and a rerun measures only what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "page_reading.py"


def run_quick(folder, *names):
    words = ["--quick", "--seeds", "0", "--jobs", "1", "--out", folder / "rows.json", "--page", folder / "page.md"]
    command = [sys.executable, SCRIPT, *names, *words, "--models", folder / "models"]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=200)


@pytest.mark.e2e
def test_quick_mode_measures_methods_and_pruners_and_a_rerun_keeps_their_rows(tmp_path):
    done = run_quick(tmp_path, "doc_compressor", "random", "token_correlation", "fastv")
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "rows.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    pruned = [f"{name} at {share}%" for name in ("random", "token_correlation", "fastv") for share in (75, 50, 25)]
    assert set(rows) == {"h_reducer", "doc_compressor", *pruned}
    assert rows["h_reducer"]["tokens"] == 80
    assert rows["doc_compressor"]["tokens"] == 16
    assert rows["random at 50%"]["tokens"] == 48
    thresholds = [rows[f"token_correlation at {share}%"]["pruning"]["similarity_threshold"] for share in (75, 50, 25)]
    assert thresholds == sorted(set(thresholds), reverse=True)  # each budget has its own, less alike for fewer tokens
    assert rows["fastv at 25%"]["tokens"] == pytest.approx(32)
    assert {layout: len(digits) for layout, digits in rows["h_reducer"]["right"].items()} == dict.fromkeys(
        ("dense", "half", "picture", "sparse"), 2
    )
    assert results["machine"]["cores"] >= 1
    assert "| random at 25% | 32 |" in (tmp_path / "page.md").read_text()

    again = run_quick(tmp_path, "group_mean")
    assert again.returncode == 0, again.stderr[-3000:]
    after = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert after[: len(rows)] == results["rows"]
    assert [row["method"] for row in after[len(rows) :]] == ["group_mean"]


@pytest.mark.e2e
def test_an_unknown_name_is_refused_with_those_that_exist(tmp_path):
    done = run_quick(tmp_path, "random_tokens")
    assert done.returncode == 2
    assert "random_tokens" in done.stderr
    assert "uniform_stride" in done.stderr

"""The demo itself, small: every stage runs and the page and the numbers are there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
def test_the_demo_runs_through_and_its_page_shows_everything(tmp_path):
    out = tmp_path / "demo_out"
    words = ["--out", str(out), "--scenes", "96", "--epochs", "1", "--held-out", "6", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["accuracy"]) == {"tagged", "untagged"}
    assert metrics["held_out"] == 6
    assert 0 < metrics["majority_guess"] < 0.5
    assert set(metrics["seconds"]) == {"tag", "data", "evaluate_before", "train", "evaluate_after", "ask"}
    page = (out / "index.html").read_text()
    links = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert len([link for link in links if link.startswith("tagged/")]) == 6
    assert [link for link in links if not (out / link).exists()] == []
    assert "1. chair" in page
    assert str(out / "index.html") in done.stdout.replace("\n", "")

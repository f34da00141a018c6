"""The measuring scripts run, and the GPU suite finds on a small CPU model what it would look for on a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

# What `make gpu` may not need: nothing but what a machine with torch and transformers has.
BLOCKED = ["pydantic", "rich", "typer", "deepspeed", "peft", "datasets", "lmms_eval", "skimage", "cv2", "timm"]


def run(*words):
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.e2e
def test_the_gpu_suite_on_a_small_cpu_model_with_few_packages(tmp_path):
    blocker = tmp_path / "run_blocked.py"
    blocker.write_text(
        "import runpy, sys\n"
        f"for name in {BLOCKED!r}: sys.modules[name] = None\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'scripts')!r}]\n"
        "sys.argv = ['gpu_suite.py', 'parity', 'gradients', '--device', 'cpu', '--out', sys.argv[1]]\n"
        f"runpy.run_path({str(ROOT / 'scripts' / 'gpu_suite.py')!r}, run_name='__main__')\n"
    )
    done = run(blocker, tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["parity"]["float32_eager"]["ok"]
    assert results["gradients"]["text_only_touches_vision"]
    assert results["versions"]["torch"]


@pytest.mark.e2e
@pytest.mark.skipif(torch.cuda.is_available(), reason="says so only without a GPU")
def test_without_a_gpu_the_suite_says_so_and_succeeds():
    done = run("scripts/gpu_suite.py")
    assert done.returncode == 0
    assert "No GPU here" in done.stdout


@pytest.mark.e2e
def test_the_gpu_suite_finds_the_models_of_the_tests_without_help(tmp_path):
    done = run("scripts/gpu_suite.py", "data_models", "--device", "cpu", "--out", tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text())["data_models"]
    assert done.returncode == 0 and found["local_model"]["ok"] and found["sam"]["ok"], done.stderr[-3000:]


@pytest.mark.e2e
def test_a_benchmark_writes_its_numbers_with_their_circumstances(tmp_path):
    done = run("scripts/bench.py", "marks", "--out", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr[-3000:]
    marks = json.loads((tmp_path / "bench.json").read_text())["marks"]
    assert marks["marks_drawn"] == 30
    assert marks["published_over_ours"]["marks"] > 1
    assert {"command", "date", "versions", "machine"} <= set(marks)
    assert run("scripts/bench.py", "mark").returncode == 2

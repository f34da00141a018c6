import subprocess
import sys
import time

import pytest

from eval.__main__ import main
from eval.config import EvalConfig


def test_help_needs_no_framework():
    code = (
        "import sys; from eval.__main__ import main; main(['--help']); print({'torch', 'lmms_eval'} & set(sys.modules))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 3  # alone it takes 0.15 s
    assert "python -m eval tasks=som_listing" in done.stdout and done.stdout.endswith("set()\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["model=x"], "option 'tasks' is required"),
        (["tasks=pope", "modle=x"], "Did you mean 'model'"),
        (["tasks=pope", "model=x", "limit=0"], "limit=0: must be at least 1"),
        (["tasks=[]", "model=x"], "name at least one task"),
        (["tasks=pope", "model=x", "batch_size=big"], "batch_size='big'"),
        (["tasks=pope", "model=x", "intervention=vra"], "Did you mean 'var'"),
        (["tasks=pope", "model=x", "intervention={type: var, roh: 1}"], "Did you mean 'rho'"),
        (["tasks=pope", "model=x", "baseline=/nowhere"], "/nowhere: holds no report.json"),
    ],
)
def test_mistakes_are_told_with_the_remedy(argv, message, capsys):
    assert main(argv) == 2
    assert message in capsys.readouterr().err


def test_names_are_split_and_kept_once():
    assert EvalConfig(tasks=" pope, mme,pope").task_names == ["pope", "mme"]
    assert EvalConfig(tasks=["mme"], include_path="a,b").include_paths == ["a", "b"]

"""engine=ray on a real cluster of two nodes, from the command line: the bytes of one process, and errors as they are.

Ray lives in processes of its own here: what it leaves behind in one can end it long after its tests.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen.pipeline import generate
from tests.unit.data_gen.inputs import tree

pytest.importorskip("ray")
pytestmark = pytest.mark.e2e
OPTIONS = {"source": "scenes", "count": 40, "size": 160, "recipe": ["listing", "qa"], "untagged": True}


@pytest.fixture(scope="module")
def address():
    script = Path(__file__).with_name("ray_cluster.py")
    nodes = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield nodes.stdout.readline().strip()
    nodes.communicate("")
    assert nodes.returncode == 0


def on_ray(address, folder, **options):
    """Exit status and everything printed by a run that is started in `folder`."""
    words = {**OPTIONS, "engine": "ray", "address": address, "workers": 2, "block_images": 4, **options}
    command = [sys.executable, "-m", "data_gen", *(f"{key}={json.dumps(value)}" for key, value in words.items())]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return done.returncode, done.stdout


def test_two_nodes_write_what_one_process_writes(address, tmp_path, monkeypatch):
    code, text = on_ray(address, tmp_path, out="ray/out")  # a relative path means the same on every node
    assert code == 0 and "from 40 images" in text, text
    monkeypatch.chdir(tmp_path)
    generate({**OPTIONS, "out": "one/out"})
    assert tree(tmp_path / "ray" / "out") == tree(tmp_path / "one" / "out")


def test_a_run_is_resumed_by_another_engine(address, tmp_path):
    assert generate({**OPTIONS, "limit": 10, "out": tmp_path / "out"})["images"] == 10
    code, text = on_ray(address, tmp_path, out="out")
    assert code == 0, text
    generate({**OPTIONS, "out": tmp_path / "whole" / "out"})
    assert tree(tmp_path / "out") == tree(tmp_path / "whole" / "out")


def test_what_stops_a_stage_comes_out_as_it_was_raised(address, tmp_path):
    served = {"annotator": "openai_compatible", "model": "m", "max_retries": 0, "base_url": "http://127.0.0.1:9/v1"}
    code, text = on_ray(address, tmp_path, out="out", **served)  # nothing listens on the discard port
    assert code == 2 and "error: http://127.0.0.1:9/v1: the last 10 requests got no answer" in text, text
    assert "Traceback" not in text


def test_a_node_without_the_folder_says_so(address, tmp_path):
    program = (
        "from data_gen.config import plan_run\n"
        f"run = plan_run({ {**OPTIONS, 'engine': 'ray', 'address': address, 'out': 'absent'}!r})\n"
        "try: list(run.engine.entries(run, run.source.refs()))\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "does not see 'absent'" in done.stdout and "all nodes share" in done.stdout, done.stderr[-2000:]

import os
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[3] / "scripts/launch.sh"


def launch(*arguments, **environment):
    clean = {"PATH": os.environ["PATH"], "PYTHON": "python3", "DRY_RUN": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    command = ["bash", str(LAUNCH), *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True)


def test_one_machine_uses_all_its_gpus_and_passes_the_options_on():
    words = launch("recipe.yaml", "run_name=two words").stdout
    assert "--nnodes 1 --node_rank 0 --nproc_per_node 2 --master_addr 127.0.0.1" in words
    assert words.strip().endswith(r"-m train recipe.yaml run_name=two\ words")


def test_slurm_tells_the_machines_their_places(tmp_path):
    (tmp_path / "scontrol").write_text("#!/bin/sh\nprintf 'node7\\nnode8\\n'\n")
    (tmp_path / "scontrol").chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[7-8]"}
    words = launch("recipe.yaml", PATH=f"{tmp_path}:{os.environ['PATH']}", **slurm).stdout
    assert "--nnodes 2 --node_rank 1 --nproc_per_node 2 --master_addr node7 --master_port 23456" in words


def test_the_environment_overrides_everything():
    chosen = {"NPROC": "3", "NNODES": "4", "NODE_RANK": "2", "MASTER_ADDR": "host0", "MASTER_PORT": "1234"}
    words = launch("recipe.yaml", SLURM_NNODES="9", **chosen).stdout
    assert "--nnodes 4 --node_rank 2 --nproc_per_node 3 --master_addr host0 --master_port 1234" in words


def test_many_machines_without_an_address_are_refused():
    done = launch("recipe.yaml", NNODES="2")
    assert done.returncode == 2
    assert "need MASTER_ADDR" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_variable(arguments):
    text = launch(*arguments).stdout
    for variable in ("NPROC", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PYTHON", "DRY_RUN"):
        assert variable in text
    assert "set -euo" not in text


@pytest.mark.parametrize(("visible", "processes"), [("", 1), ("-1", 1), ("3", 1), ("0,2,5", 3)])
def test_only_visible_gpus_count(visible, processes):
    assert f"--nproc_per_node {processes} " in launch("recipe.yaml", CUDA_VISIBLE_DEVICES=visible).stdout


def test_a_driver_that_fails_counts_as_no_gpu(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    clean = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "python3", "DRY_RUN": "1"}
    done = subprocess.run(["bash", str(LAUNCH), "recipe.yaml"], env=clean, capture_output=True, text=True)
    assert "--nproc_per_node 1 " in done.stdout

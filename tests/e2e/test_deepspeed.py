"""Two ranks under DeepSpeed, one of which never sees an image: nothing hangs, the losses are those of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llava_som.config_file import read_options
from llava_som.inference import load_assistant
from tests.tiny import tiny_model
from tests.unit.data.scene_records import scene, text_only, write_data
from train.config import parse_recipe
from train.run import train

ROOT = Path(__file__).parents[2]
RECIPE = "scripts/recipes/cpu_smoke.yaml"
STEPS, BATCH = 4, 2
OPTIONS = {"max_steps": STEPS, "train_sampling_strategy": "sequential", "disable_tqdm": True, "warmup_steps": 0}
RUN_S = 120

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Batches of two in the order image, text, image, text: the first goes to rank 0, the second to rank 1 ..."""
    batches = [[make(BATCH * step + n) for n in range(BATCH)] for step in range(STEPS) for make in (scene, text_only)]
    return write_data(tmp_path_factory.mktemp("data"), [record for batch in batches for record in batch])


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A saved model, so that ZeRO-3 loads it in shards."""
    folder = tmp_path_factory.mktemp("start")
    for part in tiny_model(chat_template="chatml"):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def losses_of_one_process(start, data, tmp_path_factory):
    options = OPTIONS | {"model": str(start), "data": str(data), "output_dir": str(tmp_path_factory.mktemp("one"))}
    options["per_device_train_batch_size"] = 2 * BATCH
    return train(parse_recipe(read_options([RECIPE]) | options))["losses"]


@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [
        ("deepspeed=scripts/deepspeed/zero2.json", 1e-3),
        ("deepspeed=scripts/deepspeed/zero3.json", 2e-3),
        ("activation_checkpointing=true", 1e-3),  # torch's own data parallelism
    ],
    ids=["zero2", "zero3", "ddp"],
)
def test_a_rank_with_text_only_does_not_hang_and_the_losses_agree(
    engine, tolerance, start, data, losses_of_one_process, tmp_path
):
    options = OPTIONS | {"model": start, "data": data, "output_dir": tmp_path, "per_device_train_batch_size": BATCH}
    words = [f"{key}={value}" for key, value in options.items()]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "train"]
    done = subprocess.run(
        [*launch, RECIPE, engine, *words],
        cwd=ROOT,
        env={
            **os.environ,
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "TORCH_EXTENSIONS_DIR": str(tmp_path / "x"),
        },
        timeout=RUN_S,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((tmp_path / "loss.json").read_text())
    assert [[entry["step"], entry["loss"]] for entry in history] == [
        [step, pytest.approx(loss, abs=tolerance)] for step, loss in losses_of_one_process
    ]
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    load_assistant(tmp_path, device="cpu")  # every weight is there, also those that the ranks shared
    assert not (tmp_path / "x").exists()  # nothing was compiled

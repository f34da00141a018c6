"""Two ranks under DeepSpeed, one of which never sees an image: nothing hangs, the losses are those of one process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llava_som.config_file import read_options
from llava_som.inference import load_assistant
from tests.tiny import drawn_image, tiny_model
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


def losses_written_in(folder):
    return [[entry["step"], entry["loss"]] for entry in json.loads((folder / "loss.json").read_text())]


def train_on_two_ranks(engine, model, data, out):
    options = OPTIONS | {"model": model, "data": data, "output_dir": out, "per_device_train_batch_size": BATCH}
    words = [f"{key}={value}" for key, value in options.items()]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "train"]
    done = subprocess.run(
        [*launch, RECIPE, engine, *words],
        cwd=ROOT,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(out / "x")},
        timeout=RUN_S,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return losses_written_in(out)


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
    history = train_on_two_ranks(engine, start, data, tmp_path)
    assert history == [[step, pytest.approx(loss, abs=tolerance)] for step, loss in losses_of_one_process]
    assert history[-1][1] < history[0][1] - 0.1
    load_assistant(tmp_path, device="cpu")  # every weight is there, also those that the ranks shared
    assert not (tmp_path / "x").exists()  # nothing was compiled


def test_ranks_with_different_numbers_of_pages_and_tiles_do_not_hang_under_zero3(tmp_path):
    """Rank 0 reads two pages a record, cut into up to four tiles and pruned; rank 1 one page, or text only."""
    parts = {"projector": {"type": "h_reducer", "eos": True}, "tiling": "grid_4", "chat_template": "chatml"}
    parts |= {"compressor": {"type": "doc_compressor", "heads": 4}, "pruning": {"type": "random", "min_tokens": 1}}
    parts |= {"modality_adaptive": True}
    for part in tiny_model(**parts):
        part.save_pretrained(tmp_path / "start")
    records = []
    for number in range(2 * STEPS * BATCH):
        sizes = [(60, 200), (90, 90)] if number // BATCH % 2 == 0 else [(40, 40)] * (number % 2)
        files = [f"page-{number}-{width}.png" for width, _ in sizes]
        for file, size in zip(files, sizes, strict=True):
            drawn_image(number, size).save(tmp_path / file)
        question = "<image>\n" * len(files) + "Read the text."
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "1. red circle"}]
        records.append({"id": f"record-{number}", "conversations": turns} | ({"image": files} if files else {}))
    data = write_data(tmp_path, records)
    history = train_on_two_ranks("deepspeed=scripts/deepspeed/zero3.json", tmp_path / "start", data, tmp_path / "out")
    assert len(history) == STEPS
    assert history[-1][1] < history[0][1] - 0.1
    model = load_assistant(tmp_path / "out", device="cpu").model
    assert model.config.compressor["type"] == "doc_compressor"


@pytest.fixture
def two_nodes():
    """Two network namespaces joined by a virtual cable: (namespace, interface) of each. They need root and `ip`."""
    nodes = [(f"llava{os.getpid()}{end}", f"node{end}") for end in "ab"]
    (first, cable), (second, other) = nodes
    steps = [f"netns add {first}", f"netns add {second}"]
    steps += [f"link add {cable} netns {first} type veth peer name {other} netns {second}"]
    for host, (space, interface) in enumerate(nodes, start=1):
        steps += [f"-n {space} addr add 10.77.0.{host}/24 dev {interface}"]
        steps += [f"-n {space} link set {device} up" for device in (interface, "lo")]
    try:
        for step in steps:
            done = shutil.which("ip") and subprocess.run(["ip", *step.split()], capture_output=True, text=True)
            if not done or done.returncode:
                pytest.skip(f"ip {step}: {done.stderr.strip() if done else 'is not installed'}")
        yield nodes
    finally:
        for space, _ in nodes if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)


def test_two_nodes_started_by_launch_sh_train_like_one_process(two_nodes, start, data, losses_of_one_process, tmp_path):
    options = OPTIONS | {"model": start, "data": data, "output_dir": tmp_path, "per_device_train_batch_size": BATCH}
    words = [f"{key}={value}" for key, value in options.items()]
    command = ["scripts/launch.sh", RECIPE, "deepspeed=scripts/deepspeed/zero2.json", *words]
    shared = {"NNODES": "2", "NPROC": "1", "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29400", "PYTHON": sys.executable}
    runs = [
        subprocess.Popen(
            ["ip", "netns", "exec", space, *command],
            cwd=ROOT,
            env={
                **os.environ,
                **shared,
                "CUDA_VISIBLE_DEVICES": "",
                "NODE_RANK": rank,
                "GLOO_SOCKET_IFNAME": interface,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, (space, interface) in zip("01", two_nodes, strict=True)
    ]
    try:
        errors = [run.communicate(timeout=RUN_S)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], errors[0][-3000:]
    assert losses_written_in(tmp_path) == [
        [step, pytest.approx(loss, abs=1e-3)] for step, loss in losses_of_one_process
    ]

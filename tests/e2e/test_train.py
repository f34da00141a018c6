"""Recipe to saved model in one process, on generated scenes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from data_gen.__main__ import main as generate
from llava_som.config_file import read_options
from llava_som.inference import load_assistant
from llava_som.quarantine import Quarantine
from tests.tiny import drawn_image, user
from train.__main__ import main
from train.config import parse_recipe
from train.run import train
from train.trainer import SomTrainer

RECIPE = str(Path(__file__).parents[2] / "scripts/recipes/cpu_smoke.yaml")

pytestmark = pytest.mark.e2e


def recipe(data, out, **options):
    given = {"disable_tqdm": True, "max_steps": 20, "save_strategy": "steps", "save_steps": 10, **options}
    return parse_recipe(read_options([RECIPE]) | given | {"data": str(data), "output_dir": str(out)})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    assert generate(["source=scenes", "count=24", f"out={folder}"]) == 0
    return folder / "data.json"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run: its output folder, its result, and the model as it was when it was saved."""
    out, models = tmp_path_factory.mktemp("run"), []
    with pytest.MonkeyPatch.context() as patch:
        save = SomTrainer.save_model
        patch.setattr(SomTrainer, "save_model", lambda self, *a, **k: (models.append(self.model), save(self, *a, **k)))
        result = train(recipe(data, out))
    return out, result, models[-1].eval()


def test_the_loss_falls_and_is_written_down(run):
    out, result, _ = run
    losses = [loss for _, loss in result["losses"]]
    assert result["steps"] == len(losses) == 20
    assert sum(losses[-3:]) / 3 < 0.75 * losses[0]
    assert [[entry["step"], entry["loss"]] for entry in json.loads((out / "loss.json").read_text())] == result["losses"]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "samples are trained" in (out / "preflight.html").read_text()
    assert result["set_aside"] == 0


def test_the_saved_folder_loads_with_equal_logits_and_answers(run):
    out, _, trained = run
    assistant = load_assistant(out, device="cpu")
    question = [user("List the marks.", drawn_image(3))]
    inputs = assistant.inputs([question])
    with torch.no_grad():
        assert torch.equal(assistant.model(**inputs).logits, trained(**inputs).logits)
    assert isinstance(assistant.answer([question], max_new_tokens=4)[0], str)


def test_a_run_that_was_stopped_continues_with_the_same_losses(run, data, tmp_path):
    out, result, trained = run
    shutil.copytree(out / "checkpoint-10", tmp_path / "checkpoint-10")
    resumed = train(recipe(data, tmp_path))
    assert resumed["losses"] == result["losses"]
    for name, weight in load_assistant(tmp_path, device="cpu").model.state_dict().items():
        torch.testing.assert_close(weight, trained.state_dict()[name], rtol=0, atol=1e-6)


def test_resume_never_starts_again(run, data, tmp_path):
    out, result, _ = run
    shutil.copytree(out / "checkpoint-10", tmp_path / "checkpoint-10")
    again = train(recipe(data, tmp_path, resume="never", max_steps=2, save_strategy="no"))
    assert again["steps"] == 2
    assert again["losses"][0] == result["losses"][0]


def test_stages_follow_each_other_in_one_process(run, data, tmp_path):
    out, _, trained = run
    result = train(recipe(data, tmp_path, model=str(out), stage="align", max_steps=2, save_strategy="no"))
    aligned = load_assistant(result["output_dir"], device="cpu").model
    same = {name: torch.equal(weight, trained.state_dict()[name]) for name, weight in aligned.state_dict().items()}
    assert {name.partition(".")[0] for name, unchanged in same.items() if not unchanged} == {"multi_modal_projector"}


def test_bad_records_are_set_aside_and_the_command_finishes(data, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(data.parent, folder)
    records = json.loads((folder / "data.json").read_text())
    (folder / records[1]["image"]).write_bytes(b"no image")
    (folder / records[2]["image"]).unlink()
    records[3]["conversations"][1]["value"] = ""
    records[4]["image"] = "../elsewhere.png"
    records[5]["conversations"][1]["value"] *= 200
    lines = [*map(json.dumps, records), '{"id": broken']
    (folder / "data.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    options = ["max_steps=8", "per_device_train_batch_size=4", "disable_tqdm=true", f"output_dir={out}"]
    assert main([RECIPE, f"data={folder / 'data.jsonl'}", *options]) == 0
    assert "6 records set aside" in capsys.readouterr().out
    expected = {record["id"] for record in records[1:6]} | {f"data.jsonl:{len(lines)}"}
    assert Quarantine(out / "quarantine.jsonl").ids == expected

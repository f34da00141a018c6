import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from llava_som.config_file import read_options
from llava_som.data.sources import DataFile
from train.__main__ import main
from train.config import parse_recipe
from train.deepspeed_rules import deepspeed_problems
from train.stages import STAGES

SCRIPTS = Path(__file__).parents[3] / "scripts"
REQUIRED = {"model": "m", "data": "d.json", "output_dir": "out"}


def test_help_is_quick_and_imports_no_framework():
    start = time.perf_counter()
    code = "import sys; from train.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "projector_learning_rate" in done.stdout
    assert "transformers.TrainingArguments" in done.stdout
    assert time.perf_counter() - start < 3  # under 1 s on an idle machine


def test_our_options_and_those_of_training_arguments_stand_side_by_side(tmp_path):
    recipe = parse_recipe(
        REQUIRED | {"output_dir": str(tmp_path), "max_length": 77, "learning_rate": 0.5, "use_cpu": True}
    )
    assert recipe.max_length == 77
    assert recipe.training == {"learning_rate": 0.5, "use_cpu": True}
    arguments = recipe.training_arguments()
    assert (arguments.learning_rate, arguments.output_dir) == (0.5, str(tmp_path))
    assert arguments.report_to == []
    assert not arguments.logging_nan_inf_filter


def test_data_is_a_file_or_a_list():
    assert parse_recipe(REQUIRED).files == [DataFile("d.json")]
    listed = parse_recipe(REQUIRED | {"data": ["a.json", {"path": "b.json", "image_root": "pictures"}]})
    assert listed.files == [DataFile("a.json"), DataFile("b.json", "pictures")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_lenght": 5}, "Did you mean 'max_length'"),
        ({"learning_rat": 5}, "Did you mean 'learning_rate'"),
        ({"evaluation_strategy": "no"}, "Did you mean 'eval_strategy'"),
        ({"training": {}}, "Unknown option 'training'"),
        ({"max_length": "long"}, "max_length='long'"),
        ({"max_length": 0}, "at least 1"),
        ({"stage": "aling"}, "Did you mean 'align'"),
        ({"resume": "sometimes"}, "resume='sometimes'"),
        ({"data": [{"file": "x"}]}, "data="),
    ],
)
def test_an_option_that_does_not_fit_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        parse_recipe(REQUIRED | options)


def test_a_wrong_value_for_training_arguments_is_named():
    with pytest.raises(ValueError, match="learning_rate='fast'"):
        parse_recipe(REQUIRED | {"learning_rate": "fast"}).training_arguments()


def test_main_says_what_is_wrong_and_exits_with_2(capsys):
    assert main(["max_length=5"]) == 2
    assert "'model' is required" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", sorted(SCRIPTS.glob("recipes/*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_parses_and_names_files_that_exist(recipe):
    if "stage" not in yaml.safe_load(recipe.read_text()):
        pytest.skip("not a training recipe")
    config = parse_recipe(read_options([str(recipe)]))
    assert config.stage in STAGES
    deepspeed = config.training.get("deepspeed")
    assert deepspeed is None or (SCRIPTS.parent / deepspeed).is_file()


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"])
def test_the_deepspeed_files_follow_the_rules(name):
    config = json.loads((SCRIPTS / f"deepspeed/{name}.json").read_text())
    assert deepspeed_problems(config, has_launcher=True) == []
    assert config["zero_optimization"]["stage"] == int(name[4])
    assert ("offload_optimizer" in config["zero_optimization"]) == name.endswith("offload")


@pytest.mark.parametrize(
    ("zero", "said"),
    [
        ({"stage": 3}, "stage3_gather_16bit_weights_on_model_save"),
        ({"stage": 2, "offload_param": {"device": "cpu"}}, "ZeRO-3 only, the stage is 2"),
        ({"offload_optimizer": {"device": "cpu"}}, "needs ZeRO stage 1, 2 or 3"),
    ],
)
def test_a_deepspeed_rule_that_is_broken_is_named(zero, said):
    assert said in " ".join(deepspeed_problems({"zero_optimization": zero}, has_launcher=True))


def test_deepspeed_needs_a_launcher_a_readable_file_and_for_offload_a_compiler(monkeypatch, tmp_path):
    assert "scripts/launch.sh" in deepspeed_problems({}, has_launcher=False)[0]
    assert "cannot be read" in deepspeed_problems(str(tmp_path / "absent.json"), has_launcher=True)[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    offload = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    assert "ninja and g++" in deepspeed_problems(offload, has_launcher=True)[0]

from dataclasses import dataclass

import pytest

from llava_som.config_file import describe_options, option, parse_options, read_options


@dataclass
class Options:
    out: str = option(help="folder to write to")
    epochs: int = option(1, help="passes over the data")
    rate: float = option(1e-3, help="learning rate")
    tasks: list[str] = option(factory=list, help="benchmarks")


def test_files_and_words_merge_left_to_right(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("out: a\nepochs: 2\nrate: 1e-4\n")
    options = parse_options(Options, read_options([str(recipe), "epochs=3", "tasks=[pope,mme]"]))
    assert options == Options(out="a", epochs=3, rate=1e-4, tasks=["pope", "mme"])


def test_dotted_words_reach_into_mappings():
    assert read_options(["model.vision.name=clip", "model.seed=1"]) == {
        "model": {"vision": {"name": "clip"}, "seed": 1}
    }
    with pytest.raises(ValueError, match="already has a plain value"):
        read_options(["model=x", "model.seed=1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=a", "epoch=2"], r"Unknown option 'epoch'\. Did you mean 'epochs'\?"),
        (["epochs=2"], "'out' is required"),
        (["out=a", "epochs=many"], r"epochs='many'.*integer"),
        (["somewhere"], "Write a YAML file name or key=value"),
        (["nowhere.yaml"], "no such configuration file"),
        (["out=[1"], "not a YAML value"),
    ],
)
def test_errors_name_the_option(words, message):
    with pytest.raises(ValueError, match=message):
        parse_options(Options, read_options(words))


def test_a_yaml_file_that_is_no_mapping(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must hold `key: value` lines"):
        read_options([str(tmp_path / "list.yaml")])


def test_help_lists_every_option_and_the_examples():
    text = describe_options(Options, "python -m x", ["python -m x out=a"])
    assert "out  (str; required)" in text
    assert "learning rate" in text
    assert text.endswith("python -m x out=a")


def test_a_key_that_stands_twice_is_an_error_and_not_the_last_one(tmp_path):
    (tmp_path / "twice.yaml").write_text("model:\n  vision: a\n  vision: b\n")
    with pytest.raises(ValueError, match=r"(?s)twice\.yaml: is not valid YAML: 'vision' stands twice.*line 3"):
        read_options([str(tmp_path / "twice.yaml")])

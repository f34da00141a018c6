from dataclasses import dataclass
from typing import Any, Literal

import pytest

from llava_som.config_file import describe_options, option, parse_options, read_options


@dataclass
class Options:
    out: str = option(help="folder to write to")
    epochs: int = option(1, help="passes over the data")
    rate: float = option(1e-3, help="learning rate")
    tasks: list[str] = option(factory=list, help="benchmarks")
    turns: tuple[int, int] = option((2, 5), help="fewest and most")
    colour: tuple[int, int, int] | None = option(None, help="red, green, blue")
    draw: tuple[Literal["mark", "mask"], ...] | None = option(None, help="layers")
    labels: Literal["numbers"] | tuple[str, ...] = option("numbers", help="what tags say")
    marks: dict[str, Any] = option(factory=dict, help="fields of the preset")


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
        (["out="], "out= needs a value: folder to write to"),
        (["out=a", "tasks="], "tasks= needs a value: benchmarks"),
        (["out=a", "turns=3"], r"turns=3: takes 2 values\. Write turns=\[2, 5\]"),
        (["out=a", "turns=[1,2,3]"], r"takes 2 values\. Write turns=\[2, 5\]"),
        (["out=a", "turns=[1,x]"], r"turns=\[1, 'x'\]: .*integer"),
        (["out=a", "colour=red"], r"takes 3 values\. Write colour=\[int, int, int\]"),
        (["out=a", "draw=masc"], r"draw=\['masc'\]: Input should be 'mark' or 'mask'"),
        (["out=a", "tasks.pope=1"], r"takes a list\. Write tasks=\[\.\.\.\]"),
        (["out=a", "labels=number"], "labels='number': "),  # a misspelt choice is no list of one
        (["out=a", "marks=paper"], r"marks='paper': takes values by name\. Write marks\.NAME=value \(fields of the"),
    ],
)
def test_errors_name_the_option(words, message):
    with pytest.raises(ValueError, match=message):
        parse_options(Options, read_options(words))


def test_one_value_is_a_list_of_one():
    options = parse_options(Options, read_options(["out=a", "tasks=pope", "draw=mask", "colour=null"]))
    assert (options.tasks, options.draw, options.colour) == (["pope"], ("mask",), None)


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

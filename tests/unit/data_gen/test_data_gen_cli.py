import subprocess
import sys
from pathlib import Path

import pytest

from data_gen.__main__ import main
from data_gen.config import plan_run
from data_gen.sources import SOURCES
from llava_som.config_file import read_options
from tests.unit.data_gen.inputs import source_options

RECIPES = Path(__file__).parents[3] / "scripts" / "recipes" / "data"


def test_help_lists_every_plug_in_and_imports_no_framework():
    code = (
        "import sys; from data_gen.__main__ import main; main(['--help']);"
        "print(sorted({'torch', 'transformers', 'cv2', 'skimage', 'datasets'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *help_lines, heavy = result.stdout.splitlines()
    assert heavy == "[]"
    for name in [*SOURCES.names(), "recipe=listing", "annotator=ground_truth", "examples:"]:
        assert any(name in line for line in help_lines)


def test_a_recipe_file_with_overrides_runs_and_reports(tmp_path, capfd):
    words = [str(RECIPES / "scenes.yaml"), "count=4", f"out={tmp_path}", "marks.min_area=5"]
    assert main(words) == 0
    assert "4 records with" in capfd.readouterr().out and (tmp_path / "index.html").exists()


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_file_is_a_run(recipe, tmp_path):
    options = read_options([str(recipe)])
    inputs = source_options(options["source"], tmp_path)
    needed = {"model": "m"} if options["annotator"] == "openai_compatible" else {}
    run = plan_run({**inputs, **options, **needed, "out": tmp_path / "out"})
    assert run.source.refs() and run.recipes


def test_errors_are_one_line_and_nothing_made_is_a_failure(tmp_path, capfd):
    assert main(["source=scnes", f"out={tmp_path}"]) == 2
    assert capfd.readouterr().err == (
        f"error: Unknown source 'scnes'. Did you mean 'scenes'? Allowed: {', '.join(SOURCES.names())}.\n"
    )
    (tmp_path / "boxes.json").write_text('{"gone.jpg": [{"bbox": [0, 0, 5, 5], "name": "x"}]}')
    words = ["source=boxes", f"images={tmp_path}", f"annotations={tmp_path}/boxes.json", f"out={tmp_path}/out"]
    assert main(words) == 1
    assert "rejected, unusable image: 1" in capfd.readouterr().out

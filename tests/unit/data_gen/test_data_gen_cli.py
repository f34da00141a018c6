import dataclasses
import logging
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from data_gen.__main__ import help_text, log_above_progress, main
from data_gen.config import plan_run
from data_gen.pipeline import with_progress
from data_gen.sources import SOURCES
from llava_som.config_file import read_options
from llava_som.marks import Preset
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


def test_help_lists_every_field_of_a_preset_with_its_meaning():
    meanings = dict(re.findall(r"^  marks\.(\w+)  (\S.+)$", help_text(), re.MULTILINE))
    assert meanings.keys() == {field.name for field in dataclasses.fields(Preset)} - {"name"}
    assert (
        meanings["max_tags"].startswith("at most so many marks") and "(paper null, clear 20, " in meanings["max_tags"]
    )


def test_what_is_kept_is_said_only_where_something_is(tmp_path, monkeypatch, capfd):
    def broken(*_, **__):
        raise OSError("no server")

    (tmp_path / "file").touch()
    words = ["source=scenes", "count=2"]
    assert main([*words, f"out={tmp_path}/file/out"]) == 2
    error = capfd.readouterr().err
    assert error == f"error: out={tmp_path}/file/out: cannot be written (Not a directory). Choose another out=.\n"
    assert main([*words, f"out={tmp_path}/out"]) == 0
    monkeypatch.setattr("data_gen.pipeline.plan_run", broken)
    for more, is_kept in (([], True), (["dry_run=true"], False)):
        assert main([*words, f"out={tmp_path}/out", *more]) == 2
        assert ("What is finished is kept" in capfd.readouterr().err) == is_kept


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


def test_other_packages_are_heard_only_when_they_warn(monkeypatch, capfd):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_above_progress()
    logging.getLogger("httpx2").info("HTTP Request: POST /v1/chat/completions")
    logging.getLogger("data_gen.pipeline").info("going on with the rest")
    monkeypatch.setattr(sys, "stderr", screen := StringIO())  # a progress bar was drawn meanwhile
    logging.getLogger("httpx2").warning("no connection")
    assert (capfd.readouterr().err, screen.getvalue()) == ("going on with the rest\n", "no connection\n")


def test_a_log_file_gets_a_line_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr("data_gen.pipeline.LOG_EVERY_S", -1)
    caplog.set_level("INFO")
    entries = [{"id": "a", "rejects": []}, {"id": "b", "rejects": [{}]}]
    assert list(with_progress(entries, 2, "marking", show=True)) == entries
    assert caplog.messages == ["marking: 1 of 2, 0 rejected", "marking: 2 of 2, 1 rejected"]


def test_a_folder_named_by_a_number_can_be_quoted(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["source=scenes", "count=2", "out=2024"]) == 2
    assert """If it is meant as text: out='"2024"'""" in capfd.readouterr().err
    assert main(["source=scenes", "count=2", 'out="2024"']) == 0 and (tmp_path / "2024" / "data.json").exists()
    assert main(["source=scenes", "count=2", "out=2024/data.json"]) == 2
    assert "is a file. Name a folder" in capfd.readouterr().err


def test_errors_are_one_line_and_nothing_made_is_a_failure(tmp_path, capfd):
    assert main(["source=scnes", f"out={tmp_path}"]) == 2
    assert capfd.readouterr().err == (
        f"error: Unknown source 'scnes'. Did you mean 'scenes'? Allowed: {', '.join(SOURCES.names())}.\n"
    )
    (tmp_path / "boxes.json").write_text('{"gone.jpg": [{"bbox": [0, 0, 5, 5], "name": "x"}]}')
    words = ["source=boxes", f"images={tmp_path}", f"annotations={tmp_path}/boxes.json", f"out={tmp_path}/out"]
    assert main(words) == 1
    assert "rejected, unusable image: 1" in capfd.readouterr().out

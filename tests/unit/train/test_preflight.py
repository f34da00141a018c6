import io

import pytest
from rich.console import Console

from llava_som.data.dataset import ConversationDataset
from llava_som.data.sources import DataFile
from llava_som.quarantine import Quarantine
from tests.tiny import DECODERS, VISION, tiny_model
from tests.unit.data.scene_records import scene, text_only, write_data
from train.config import parse_recipe
from train.preflight import features_per_image, refuse_if_broken, run_preflight, show_report
from train.run import train


@pytest.fixture
def check(tmp_path):
    def run(records, features=None, change=lambda processor: None, samples=8, cut_by=None, **parts):
        model, processor = tiny_model(**parts)
        processor = processor if cut_by is None else tiny_model(**cut_by)[1]
        change(processor)
        file = write_data(tmp_path, records)
        dataset = ConversationDataset(
            [DataFile(str(file))], processor, 512, Quarantine(tmp_path / "out" / "quarantine.jsonl")
        )
        features = features or features_per_image(model)
        return run_preflight(dataset, model.config, features, samples)

    return run


@pytest.mark.parametrize("vision", sorted(VISION))
def test_features_are_those_of_a_real_forward(vision):
    model, processor = tiny_model(vision)
    assert features_per_image(model) == processor.image_seq_length


def test_a_sound_data_set_passes_and_is_shown(check, tmp_path):
    report = check([scene(0), text_only(1), scene(2)])
    refuse_if_broken(report.problems)
    assert (report.records, report.set_aside, len(report.samples)) == (3, 0, 3)
    assert 0.05 < report.trained_share < 0.9
    console = Console(record=True, width=100, file=io.StringIO())
    show_report(report, console, tmp_path / "out" / "preflight.html")
    assert "3 records, 0 set aside" in console.export_text()
    page = (tmp_path / "out" / "preflight.html").read_text()
    assert "white cross" in page
    assert "color: #008000" in page


def test_samples_show_every_kind_of_record_where_kinds_take_turns_and_the_same_ones_again(check):
    records = [scene(number) for number in range(24)]  # three answers in turn
    first, again = (check(records, samples=8).samples for _ in range(2))
    assert len(first) == 8
    for answer in ("red circle", "green triangle", "white cross"):
        assert any(answer in sample.plain for sample in first)
    assert [sample.plain for sample in first] == [sample.plain for sample in again]


def test_every_record_and_file_is_checked_though_few_are_shown(check, tmp_path):
    bad = [scene(7) | {"id": "missing", "image": "gone.png"}, scene(8) | {"id": "two", "image": ["0.png", "0.png"]}]
    report = check([scene(0), *bad, scene(1)], samples=1)
    assert report.set_aside == 2
    assert report.problems == []
    assert Quarantine(tmp_path / "out" / "quarantine.jsonl").ids == {"missing", "two"}


def test_nothing_to_train_is_refused(check):
    def without_markers(processor):
        template = processor.chat_template
        for marker in ("{%- generation -%}", "{%- endgeneration -%}"):
            template = template.replace(marker, "")
        processor.chat_template = template

    report = check([scene(0)], change=without_markers)
    with pytest.raises(ValueError, match=r"1 problem\(s\); nothing was trained:\n  - None of the 1 records is usable"):
        refuse_if_broken(report.problems)


def test_a_processor_that_counts_other_image_tokens_than_the_model_is_refused(check):
    report = check([scene(0), text_only(0)], features=9)
    with pytest.raises(ValueError, match=r"scene-0 has 16 image tokens for 1 image.*makes 9 .* counts 16\."):
        refuse_if_broken(report.problems)
    report = check([scene(0)], features=9, tiling={"grids": "grid_2x2", "global_tile": False})
    with pytest.raises(ValueError, match=r"scene-0 has 64 .* counts 64; .* smallest .* makes 9 .* counts 16\."):
        refuse_if_broken(report.problems)


@pytest.mark.parametrize("pruning", [None, {"type": "random", "apply_to": "all", "min_tokens": 1}])
def test_pages_are_counted_by_their_grids_whatever_pruning_drops(check, pruning):
    report = check([scene(0), text_only(1)], tiling="grid_4", projector="h_reducer", pruning=pruning)
    assert report.problems == []


@pytest.mark.parametrize(
    ("tiling", "cut_by", "said"),
    [
        (None, "grid_4", r"scene-0: .*reads whole images.* were given"),
        ("grid_4", None, r"scene-0: .*reads tiles.* are missing"),
        ({"grids": "grid_4", "global_tile": False}, "grid_4", r"scene-0 has \d+ image tokens for 1 image"),
    ],
)
def test_a_processor_that_cuts_otherwise_than_the_model_is_refused(check, tiling, cut_by, said):
    report = check([scene(0)], tiling=tiling, cut_by={"tiling": cut_by})
    with pytest.raises(ValueError, match=said):
        refuse_if_broken(report.problems)


def test_preflight_only_stops_before_training_needs_no_launcher_and_sees_that_data_was_mended(tmp_path):
    for part in tiny_model():
        part.save_pretrained(tmp_path / "model")
    data = write_data(tmp_path, [scene(0), scene(1)])
    options = {"model": str(tmp_path / "model"), "data": str(data), "use_cpu": True, "preflight": "only"}
    options |= {"output_dir": str(tmp_path / "out"), "deepspeed": "scripts/deepspeed/zero3.json"}
    (tmp_path / "1.png").rename(tmp_path / "lost.png")
    assert train(parse_recipe(options))["set_aside"] == 1
    (tmp_path / "lost.png").rename(tmp_path / "1.png")
    result = train(parse_recipe(options))
    assert result["set_aside"] == 0
    assert "losses" not in result
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_part_that_does_not_exist_is_named(tmp_path):
    parts = {"vision": VISION["clip"], "decoder": DECODERS["llama"], "tokenizer": "bytes", "projecter": "linear"}
    data = str(write_data(tmp_path, [scene(0)]))
    options = {"model": parts, "data": data, "output_dir": str(tmp_path), "use_cpu": True}
    with pytest.raises(ValueError, match="Did you mean 'projector'"):
        train(parse_recipe(options))
    options["model"] = {"vision": VISION["clip"]}
    with pytest.raises(ValueError, match="model needs 'decoder'"):
        train(parse_recipe(options))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vision": "nowhere/vision"}, "vision=nowhere/vision: cannot be loaded"),
        ({"decoder": "nowhere/decoder", "tokenizer": "bytes"}, "decoder=nowhere/decoder: cannot be loaded"),
        ({"tokenizer": "nowhere/words"}, "tokenizer=nowhere/words: cannot be loaded"),
        ({"vision": {"model_type": "clip_vison_model"}}, "Did you mean 'clip_vision_model'"),
    ],
)
def test_a_part_that_cannot_be_made_is_named(tmp_path, change, said):
    parts = {"vision": VISION["clip"], "decoder": DECODERS["llama"], "tokenizer": "bytes"} | change
    data = str(write_data(tmp_path, [scene(0)]))
    options = {"model": parts, "data": data, "output_dir": str(tmp_path), "use_cpu": True}
    with pytest.raises(ValueError, match=said):
        train(parse_recipe(options))


def test_a_missing_data_file_is_said_before_anything_is_loaded(tmp_path):
    recipe = {"model": "no/such/checkpoint", "data": [str(tmp_path / "gone.json")], "output_dir": str(tmp_path / "out")}
    with pytest.raises(ValueError, match=r"gone\.json: no such data file"):
        train(parse_recipe({**recipe, "use_cpu": True}))

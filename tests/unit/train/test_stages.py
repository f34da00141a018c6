import io

import pytest
import torch
from rich.console import Console

from tests.tiny import tiny_model
from train.stages import STAGES, apply_stage, freeze_map, quiet_frozen_parts, render_freeze_map

FREEZE_MAP = {
    "align": {"vision_tower": False, "multi_modal_projector": True, "language_model": False},
    "structure": {"vision_tower": True, "multi_modal_projector": True, "language_model": False},
    "finetune": {"vision_tower": False, "multi_modal_projector": True, "language_model": True},
    "full": {"vision_tower": True, "multi_modal_projector": True, "language_model": True},
}


@pytest.mark.parametrize("stage", sorted(STAGES))
@pytest.mark.parametrize("vision", ["clip", "timm"])
def test_freeze_map_of_each_stage(stage, vision):
    model, _ = tiny_model(vision)
    apply_stage(model, "full")
    apply_stage(model, stage)
    rows = freeze_map(model)
    assert {row.module: row.trained for row in rows} == FREEZE_MAP[stage]
    assert sum(row.parameters for row in rows) == sum(parameter.numel() for parameter in model.parameters())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == FREEZE_MAP[stage][name.partition(".")[0]], name


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_trains_compressor_and_vision_twins(stage):
    parts = {"tiling": "grid_4", "compressor": {"type": "doc_compressor", "heads": 4}}
    model, _ = tiny_model(modality_adaptive=True, **parts)
    apply_stage(model, stage)
    found = {row.module: row.trained for row in freeze_map(model)}
    assert found == {**FREEZE_MAP[stage], "compressor": True, "vision_twins": True}


def test_the_printed_map_names_the_stage_the_parts_and_their_sizes():
    model, _ = tiny_model()
    apply_stage(model, "align")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(render_freeze_map(freeze_map(model), "align"))
    text = console.export_text()
    assert "stage align" in text
    assert "multi_modal_projector │      2,112 │ yes" in text
    assert text.count("frozen") == 2


def test_an_unknown_stage_gets_the_closest_name():
    with pytest.raises(ValueError, match="Did you mean 'finetune'"):
        apply_stage(tiny_model()[0], "finetun")


def test_dropout_of_frozen_parts_is_off_and_that_of_trained_parts_on():
    model, _ = tiny_model()
    for part in (model.vision_tower, model.language_model):
        part.extra = torch.nn.Dropout(0.5)
    apply_stage(model, "finetune")
    quiet_frozen_parts(model.train())
    assert not model.vision_tower.extra.training
    assert model.language_model.extra.training
    assert model.training


def test_a_frozen_decoder_still_recomputes_its_layers():
    model, _ = tiny_model()
    apply_stage(model, "align")
    model.gradient_checkpointing_enable()
    quiet_frozen_parts(model.train())
    layer = model.get_decoder().layers[0]
    assert layer.training
    assert not layer.self_attn.training
    assert not model.language_model.training

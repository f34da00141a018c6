import math

import pytest
import torch
from transformers import TrainingArguments

from llava_som.data.collator import Collator
from llava_som.data.dataset import ConversationDataset
from llava_som.data.sources import DataFile
from llava_som.quarantine import Quarantine
from tests.tiny import tiny_model
from tests.unit.data.scene_records import scene, text_only, write_data
from train.config import TRAINING_DEFAULTS
from train.model import byte_tokenizer
from train.stages import apply_stage
from train.trainer import SomTrainer


@pytest.fixture
def make_trainer(tmp_path):
    def make(stage="finetune", projector_learning_rate=None, parts=None, **arguments):
        model, processor = tiny_model(**(parts or {}))
        apply_stage(model, stage)
        records = [scene(0), text_only(1), scene(2), text_only(3)]
        file = DataFile(str(write_data(tmp_path, records)))
        options = {
            "max_steps": 1,
            "per_device_train_batch_size": 2,
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 1,
        }
        return SomTrainer(
            model=model,
            args=TrainingArguments(
                str(tmp_path / "out"), use_cpu=True, **{**TRAINING_DEFAULTS, **options, **arguments}
            ),
            train_dataset=ConversationDataset([file], processor, 512, Quarantine(tmp_path / "quarantine.jsonl")),
            data_collator=Collator(processor.tokenizer.pad_token_id),
            projector_learning_rate=projector_learning_rate,
        )

    return make


def test_projector_and_compressor_have_their_own_rate_and_every_trained_parameter_is_in_one_group(make_trainer):
    parts = {"tiling": "grid_4", "compressor": {"type": "doc_compressor", "heads": 4}}
    trainer = make_trainer(projector_learning_rate=0.5, parts=parts, learning_rate=0.25, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(trained)
    for name, parameter in trained.items():
        assert rates[id(parameter)] == (0.5 if name.startswith(("multi_modal_projector", "compressor")) else 0.25)
        assert decays[id(parameter)] == (0.0 if name.endswith("bias") or "norm" in name else 0.1), name


@pytest.mark.parametrize("stage", ["align", "finetune", "full"])
def test_a_step_changes_the_parts_of_the_stage_and_no_other(make_trainer, stage):
    trainer = make_trainer(stage, learning_rate=0.1, warmup_steps=0)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    changed = {
        name.partition(".")[0] for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])
    }
    expected = {"align": set(), "finetune": {"language_model"}, "full": {"language_model", "vision_tower"}}
    assert changed == expected[stage] | {"multi_modal_projector"}


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_samples(make_trainer):
    trainer = make_trainer(train_sampling_strategy="sequential")
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(ValueError, match="loss is nan at step 0 on rank 0, samples scene-0, text-1"):
        trainer.train()


def test_trained_share_and_data_wait_are_logged(make_trainer):
    trainer = make_trainer()
    trainer.train()
    entry = trainer.state.log_history[0]
    assert 0 < entry["trained_token_share"] < 1
    assert 0 <= entry["data_wait_share"] <= 1


def test_grouping_by_length_starts_with_the_longest_and_opens_no_image(make_trainer, tmp_path):
    trainer = make_trainer(train_sampling_strategy="group_by_length")
    for image in tmp_path.glob("*.png"):
        image.unlink()
    lengths = trainer.train_dataset.estimated_lengths()
    order = list(trainer._get_train_sampler())
    assert sorted(order) == [0, 1, 2, 3]
    assert lengths[order[0]] == max(lengths)


@pytest.mark.parametrize("text", ["1. red circle", "żółw 日本 🐢", "<image>\nA</s>"])
def test_the_byte_tokenizer_gives_every_text_back(text):
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

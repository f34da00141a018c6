"""One training run, from recipe to saved model: the one path of `python -m train`, of every rank and of the demo."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from transformers import TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from llava_som.data.collator import Collator
from llava_som.data.dataset import ConversationDataset
from llava_som.quarantine import Quarantine
from train.callbacks import LossCurve
from train.deepspeed_rules import deepspeed_problems
from train.model import starting_model
from train.preflight import features_per_image, refuse_if_broken, run_preflight, show_report
from train.stages import apply_stage, freeze_map, render_freeze_map
from train.trainer import SomTrainer

if TYPE_CHECKING:
    from llava_som import LlavaSomForConditionalGeneration, LlavaSomProcessor
    from train.config import TrainConfig

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> dict[str, Any]:
    """Check, train, save. `load_assistant(config.output_dir)` loads the result.

    Returns:
        `output_dir`, `set_aside` (records), `seconds` and, if it trained, `steps`, `loss` (mean of the run), `losses`
        (`[[step, loss], ...]`).

    Raises:
        ValueError: preflight refuses, an option does not fit, or the loss is no longer finite. Says what to do.
    """
    start = time.perf_counter()
    has_launcher = "RANK" in os.environ or config.preflight == "only"
    missing = [f"{file.path}: no such data file." for file in config.files if not Path(file.path).is_file()]
    refuse_if_broken(missing + deepspeed_problems(config.training.get("deepspeed"), has_launcher))
    arguments = config.training_arguments()
    set_seed(arguments.seed)
    model, processor = starting_model(config, arguments)
    apply_stage(model, config.stage)
    console = Console(quiet=arguments.process_index != 0)
    console.print(render_freeze_map(freeze_map(model), config.stage))
    dataset = _checked_dataset(config, arguments, model, processor, console)
    result: dict[str, Any] = {"output_dir": config.output_dir}
    if config.preflight != "only":
        result |= _fit(config, arguments, model, processor, dataset)
    # Read again: every rank and every loader worker may have added to it.
    result["set_aside"] = Quarantine(dataset.quarantine.path).count
    result["seconds"] = round(time.perf_counter() - start, 1)
    _print_summary(console, result)
    return result


def leave_process_group() -> None:
    """End the distributed run together: a rank that exits first, its threads still running, can be aborted by them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _fit(
    config: TrainConfig,
    arguments: TrainingArguments,
    model: LlavaSomForConditionalGeneration,
    processor: LlavaSomProcessor,
    dataset: ConversationDataset,
) -> dict[str, Any]:
    trainer = SomTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=Collator(processor.tokenizer.pad_token_id),
        processing_class=processor,
        callbacks=[LossCurve()],
        projector_learning_rate=config.projector_learning_rate,
    )
    checkpoint = _checkpoint(config, arguments)
    if checkpoint:
        logger.warning("Continuing from %s. resume=never starts again.", checkpoint)
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(config.output_dir)
    losses = [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry]
    return {"steps": outcome.global_step, "loss": outcome.training_loss, "losses": losses}


def _checked_dataset(
    config: TrainConfig,
    arguments: TrainingArguments,
    model: LlavaSomForConditionalGeneration,
    processor: LlavaSomProcessor,
    console: Console,
) -> ConversationDataset:
    """The data after preflight. The main process goes first, so that the others find the quarantine already written."""
    checks = config.preflight != "skip"
    image_tokens = features_per_image(model) if checks else 0  # every rank takes part
    with arguments.main_process_first(local=False):
        quarantine_file = Path(config.output_dir) / "quarantine.jsonl"
        if arguments.process_index == 0 and not _checkpoint(config, arguments):
            quarantine_file.unlink(missing_ok=True)  # of an earlier run, whose data may have been mended since
        quarantine = Quarantine(quarantine_file)
        dataset = ConversationDataset(config.files, processor, config.max_length, quarantine)
        if checks and arguments.process_index == 0:
            report = run_preflight(dataset, model.config, image_tokens, config.preflight_samples)
            show_report(report, console, Path(config.output_dir) / "preflight.html")
            refuse_if_broken(report.problems)
    return dataset


def _checkpoint(config: TrainConfig, arguments: TrainingArguments) -> str | None:
    """Where to continue from: the checkpoint the user named, else the newest one in the output folder, else nowhere."""
    if arguments.resume_from_checkpoint or config.resume == "never":
        return arguments.resume_from_checkpoint
    return get_last_checkpoint(config.output_dir) if Path(config.output_dir).is_dir() else None


def _print_summary(console: Console, result: dict[str, Any]) -> None:
    trained = f"{result['steps']} steps, mean loss {result['loss']:.4f}; " if "steps" in result else ""
    summary = f"{trained}{result['set_aside']} records set aside; {result['seconds']} s; {result['output_dir']}"
    console.print(summary, markup=False, soft_wrap=True)

"""A training recipe: our options and, beside them, every option of transformers.TrainingArguments, all checked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from llava_som.config_file import describe_options, option, parse_options
from llava_som.data.sources import DataFile
from llava_som.registry import closest_match_message
from train.deepspeed_rules import start_deepspeed_on_cpu
from train.stages import trained_parts

if TYPE_CHECKING:
    from transformers import TrainingArguments

EXAMPLES = (
    "python -m train scripts/recipes/cpu_smoke.yaml",
    "python -m train scripts/recipes/cpu_smoke.yaml max_steps=5 learning_rate=1e-3 output_dir=out/short",
    "python -m train scripts/recipes/finetune_som_mix_7b.yaml preflight=only",
    "scripts/launch.sh scripts/recipes/finetune_som_mix_7b.yaml deepspeed=scripts/deepspeed/zero3.json",
)

_THEIR_OPTIONS = """Every option of transformers.TrainingArguments stands beside these: learning_rate, num_train_epochs,
max_steps, per_device_train_batch_size, gradient_accumulation_steps, lr_scheduler_type, warmup_steps (below 1: a
fraction of all steps), bf16, activation_checkpointing, train_sampling_strategy, dataloader_num_workers, save_steps,
logging_steps, report_to (trackio, tensorboard, ...), deepspeed (scripts/deepspeed/*.json), seed, and the rest of
https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments"""

# Where our defaults differ from transformers': a NaN stops the run and so must not be hidden, and the collator's sample
# ids have to reach the trainer, which names them then.
TRAINING_DEFAULTS = {"logging_nan_inf_filter": False, "remove_unused_columns": False, "report_to": "none"}


@dataclass(frozen=True)
class RecipeOptions:
    """The options that are ours."""

    model: str | dict[str, Any] = option(
        help="a checkpoint (ours, llava-hf, LLaVA-1.5, DocOwl), or the parts of a new model: vision and decoder (a "
        "checkpoint or a config with model_type), tokenizer (a checkpoint, or `bytes`), projector, chat_template ... "
        "as in llava_som.assembly.assemble"
    )
    data: str | list[str | DataFile] = option(
        help="a .json, .jsonl or .parquet file, or a list of files or {path, image_root}; the default image_root is "
        "the file's folder"
    )
    output_dir: str = option(help="where the model, the checkpoints, loss.json, loss.png and quarantine.jsonl go")
    stage: str = option(
        "finetune",
        help="which parts learn: align (projector, compressor, vision twins), structure (all but the decoder's own "
        "weights), finetune (all but the vision encoder), full (everything)",
    )
    pruning: str | dict[str, Any] | None = option(
        None, help="drop vision tokens while training, instead of what the model's config says; none switches it off"
    )
    max_length: int = option(2048, help="a record of more tokens is set aside, never cut")
    projector_learning_rate: float | None = option(
        None, help="learning rate of projector and compressor when it differs from learning_rate"
    )
    attn_implementation: str | None = option(
        None, help="sdpa, flash_attention_2, eager ...; transformers' choice when absent"
    )
    preflight: Literal["run", "only", "skip"] = option(
        "run", help="checks before the first step; `only` stops after them"
    )
    preflight_samples: int = option(8, help="how many samples preflight shows, the trained part coloured")
    resume: Literal["auto", "never"] = option(
        "auto", help="auto continues from the newest checkpoint in output_dir, if any"
    )

    def __post_init__(self) -> None:
        if self.max_length < 1 or self.preflight_samples < 1:
            raise ValueError("max_length and preflight_samples must be at least 1.")
        trained_parts(self.stage)  # an unknown stage is said before anything is loaded

    @property
    def files(self) -> list[DataFile]:
        """The data files."""
        given = [self.data] if isinstance(self.data, str) else self.data
        return [DataFile(file) if isinstance(file, str) else file for file in given]


@dataclass(frozen=True)
class TrainConfig(RecipeOptions):
    """One training run: our options, and in `training` those that go to transformers.TrainingArguments."""

    training: dict[str, Any] = field(default_factory=dict)

    def training_arguments(self) -> TrainingArguments:
        """The checked TrainingArguments; building them starts the distributed process group, where there is one."""
        from transformers import TrainingArguments

        defaults = TRAINING_DEFAULTS
        if "vision_tower" in trained_parts(self.stage):  # read at an inner layer, its last ones get no gradient
            defaults = defaults | {"ddp_find_unused_parameters": True}
        options = defaults | self.training | {"output_dir": self.output_dir}
        if self.preflight == "only":  # also runs where there is no GPU and no launcher
            options |= {"deepspeed": None, "tf32": None}
        arguments = parse_options(TrainingArguments, options)
        if arguments.deepspeed and arguments.use_cpu:
            start_deepspeed_on_cpu()
        return arguments


def parse_recipe(options: dict[str, Any]) -> TrainConfig:
    """Options of a recipe, ours and those of TrainingArguments side by side at the top level.

    Raises:
        ValueError: an unknown key (with the closest match among both), a missing one, or a value of the wrong type.
    """
    from transformers import TrainingArguments

    theirs = {item.name for item in fields(TrainingArguments) if item.init}
    ours = {item.name for item in fields(RecipeOptions)}
    for key in options:
        if key not in ours | theirs:
            raise ValueError(closest_match_message("option", key, ours | theirs))
    own = {key: value for key, value in options.items() if key in ours}
    return parse_options(TrainConfig, {**own, "training": {k: v for k, v in options.items() if k not in ours}})


def help_text() -> str:
    """What `--help` prints."""
    ours = describe_options(RecipeOptions, "python -m train RECIPE.yaml [key=value ...]", EXAMPLES)
    return f"{ours}\n\n{_THEIR_OPTIONS}"

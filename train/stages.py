"""Which parts of the model learn in which stage: one table, and the freeze map that a run prints.

LLaVA-1.5 trains in two stages (arXiv 2310.03744, section 3): the projector alone, then the projector with the decoder.
DocOwl 1.5 and DocOwl2 (arXiv 2403.12895, 2409.03420) begin with structure learning, in which all but the decoder's own
weights learn: `structure` here. A part that a model does not have is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from llava_som.registry import closest_match_message

if TYPE_CHECKING:
    from torch import nn

    from llava_som import LlavaSomForConditionalGeneration

STAGES: dict[str, frozenset[str]] = {
    "align": frozenset({"multi_modal_projector", "compressor", "vision_twins"}),
    "structure": frozenset({"vision_tower", "multi_modal_projector", "compressor", "vision_twins"}),
    "finetune": frozenset({"multi_modal_projector", "compressor", "vision_twins", "language_model"}),
    "full": frozenset({"vision_tower", "multi_modal_projector", "compressor", "vision_twins", "language_model"}),
}


@dataclass(frozen=True)
class FrozenOrTrained:
    """One row of the freeze map."""

    module: str
    parameters: int
    trained: bool


def trained_parts(stage: str) -> frozenset[str]:
    """Names of the model's children that learn in `stage`; a ValueError for an unknown stage."""
    if stage not in STAGES:
        raise ValueError(closest_match_message("stage", stage, STAGES))
    return STAGES[stage]


def apply_stage(model: LlavaSomForConditionalGeneration, stage: str) -> None:
    """Let exactly the parts of `stage` learn."""
    learning = trained_parts(stage)
    for name, part in model.named_children():
        part.requires_grad_(name in learning)


def quiet_frozen_parts(model: LlavaSomForConditionalGeneration) -> None:
    """Switch dropout and batch statistics off in the parts that do not learn, whatever `model.train()` has set.

    A checkpointed layer stays in training mode itself, only its children change: the flag is what makes it recompute
    its activations, and gradients do pass through a frozen decoder on their way to the projector.
    """
    for part in model.children():
        if any(parameter.requires_grad for parameter in part.parameters()):
            continue
        for module in part.modules():
            module.training = bool(getattr(module, "gradient_checkpointing", False))


def freeze_map(model: LlavaSomForConditionalGeneration) -> list[FrozenOrTrained]:
    """Each part of the model with its number of parameters and whether it learns."""
    return [
        FrozenOrTrained(name, _count(part), any(parameter.requires_grad for parameter in part.parameters()))
        for name, part in model.named_children()
        if any(True for _ in part.parameters())  # a compressor may have none
    ]


def render_freeze_map(rows: list[FrozenOrTrained], stage: str) -> Table:
    """The freeze map for a terminal."""
    table = Table(title=f"stage {stage}", title_justify="left")
    table.add_column("module")
    table.add_column("parameters", justify="right")
    table.add_column("trained")
    for row in rows:
        table.add_row(
            row.module,
            f"{row.parameters:,}",
            "yes" if row.trained else "frozen",
            style="green" if row.trained else "dim",
        )
    return table


def _count(part: nn.Module) -> int:
    """Parameters of a part; under ZeRO-3 a parameter's own size is that of its shard, `ds_numel` that of the whole."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in part.parameters())

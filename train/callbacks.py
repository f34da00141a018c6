"""What a run leaves behind besides the model: its loss as numbers and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class LossCurve(TrainerCallback):
    """Writes `loss.json` (one object a logged step) and `loss.png` when training ends."""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """On the main process only."""
        if not state.is_world_process_zero:
            return
        history = [entry for entry in state.log_history if "loss" in entry]
        folder = Path(str(args.output_dir))
        (folder / "loss.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
        if history:
            draw_loss_curve(history, folder / "loss.png")


def draw_loss_curve(history: list[dict[str, float]], file: Path) -> None:
    """Draw `loss` over `step` as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([entry["step"] for entry in history], [entry["loss"] for entry in history], linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)

"""What a DeepSpeed configuration must fulfil, checked before any process group is started; and that start on a CPU."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any


def deepspeed_problems(config: str | dict[str, Any] | None, has_launcher: bool) -> list[str]:
    """What is wrong with a DeepSpeed configuration on this machine, each with its remedy; empty when nothing is.

    Args:
        config: path of a JSON file, or its content; None for a run without DeepSpeed.
        has_launcher: whether torchrun or a like has started this process.
    """
    if config is None:
        return []
    try:
        content = json.loads(Path(config).read_text(encoding="utf-8")) if isinstance(config, str) else config
    except (OSError, json.JSONDecodeError) as error:
        return [f"deepspeed={config}: cannot be read as JSON ({error}). Ready ones are in scripts/deepspeed/."]
    problems = _zero_problems(content.get("zero_optimization", {}))
    if importlib.util.find_spec("deepspeed") is None:
        problems.append("deepspeed is not installed: pip install deepspeed.")
    if not has_launcher:
        problems.append("DeepSpeed runs need a launcher: scripts/launch.sh RECIPE.yaml ..., or torchrun -m train ...")
    return problems


def start_deepspeed_on_cpu() -> None:
    """Join DeepSpeed's process group over gloo; on GPUs accelerate does it. ZeRO-3 needs it before a model is created.

    DeepSpeed would first compile an operator for all-reduce in shared memory. That takes a compiler, up to minutes, and
    a lock file that stops every later run if this one is killed; gloo gives the same sums.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")


def _zero_problems(zero: dict[str, Any]) -> list[str]:
    stage = zero.get("stage", 0)
    problems = []
    if stage == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        problems.append(
            "ZeRO-3 saves shards only, no model.safetensors: set stage3_gather_16bit_weights_on_model_save=true."
        )
    if stage < 3 and _offloads(zero, "offload_param"):
        problems.append(
            f"offload_param works with ZeRO-3 only, the stage is {stage}. Use zero3_offload.json or drop it."
        )
    if stage == 0 and _offloads(zero, "offload_optimizer"):
        problems.append("offload_optimizer needs ZeRO stage 1, 2 or 3, none is set.")
    if _offloads(zero, "offload_optimizer") and not (shutil.which("ninja") and shutil.which("g++")):
        problems.append("offload_optimizer compiles DeepSpeed's CPU Adam, which needs ninja and g++ on the PATH.")
    return problems


def _offloads(zero: dict[str, Any], key: str) -> bool:
    return zero.get(key, {}).get("device", "none") != "none"

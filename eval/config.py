"""The options of `python -m eval`. Importing this file costs nothing, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llava_som.config_file import option


@dataclass(frozen=True)
class EvalConfig:
    """What is measured, on which model, and how."""

    tasks: str | list[str] = option(
        help="task, group or tag names of lmms-eval or of our own, comma-separated; globs work"
    )
    model: str = option("", help="model folder: ours, llava-hf or LLaVA-1.5 format")
    data: str | None = option(
        None,
        help="what tasks of ours read: eval.jsonl of data_gen (som_listing), the folder of DocDownstream or DocLocal4K",
    )
    out: str = option("eval_out", help="folder for report.json, report.md, report.html and samples.jsonl")
    limit: int | None = option(None, help="only the first N documents of each task")
    batch_size: int = option(1, help="conversations per forward pass; the answers do not depend on it")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, ...")
    dtype: str = option("auto", help="auto, float32, bfloat16 or float16")
    attn_implementation: str = option("auto", help="auto, sdpa, eager or a flash attention name of transformers")
    pruning: str | dict[str, Any] | None = option(
        None, help="drop vision tokens: a name or {type: ..., option: ...}, instead of what the model's config says"
    )
    intervention: str | dict[str, Any] | list[Any] | None = option(
        None,
        help="edit attention: a name, {type: ..., option: ...} or a list of these; every task then runs twice, without "
        "it first, and the report holds both with the paired difference",
    )
    max_new_tokens: int | None = option(None, help="longest answer; default: what each task states")
    seed: int = option(0, help="seed of sampling (when a task samples) and of the bootstrap")
    include_path: str | list[str] = option("", help="extra folders of lmms-eval tasks, comma-separated")
    cache: str | None = option(
        None, help="folder of greedy answers kept between runs: an identical run generates nothing again"
    )
    baseline: str | None = option(None, help="folder of an earlier run: adds the paired difference to it")

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: must be at least 1.")
        if not self.task_names:
            raise ValueError("tasks: name at least one task, for example tasks=som_listing or tasks=pope,mme.")

    @property
    def task_names(self) -> list[str]:
        """The requested names, in order, each once."""
        return list(dict.fromkeys(_words(self.tasks)))

    @property
    def include_paths(self) -> list[str]:
        """The extra task folders, in order."""
        return _words(self.include_path)


def _words(value: str | list[str]) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    return [word.strip() for word in words if word.strip()]

"""From a configuration to results: finds the tasks, lets lmms-eval run the model on them, and reads what it measured.

`evaluate` may be called many times in one process, with a loaded model; lmms-eval, slow to import, is imported once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.config import EvalConfig
from eval.results import Results, Sample, Score, read_lmms_eval

if TYPE_CHECKING:
    from lmms_eval.api.model import lmms
    from lmms_eval.tasks import TaskManager

    from llava_som.inference import Assistant

PACKAGES = ("llava_som", "lmms_eval", "torch", "transformers", "datasets")

log = logging.getLogger(__name__)


def evaluate(config: EvalConfig, model: Assistant | lmms | None = None) -> Results | None:
    """Run the tasks of `config`.

    Args:
        config: what to measure and how.
        model: a loaded assistant, or any lmms-eval model; by default `config.model` is loaded.

    Returns:
        The results; None on every rank but the first when started by `torchrun`.

    Raises:
        ValueError: no model, an unknown task, data that is missing or malformed, `cache` for a model in memory.
    """
    if model is None and not config.model:
        raise ValueError("Which model? Add model=PATH, a folder with a config.json.")
    if model is not None and config.cache:
        raise ValueError("cache= needs model=PATH: the weights of a model in memory may change unnoticed.")
    _import_lmms_eval()
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        workspace = config.cache or stack.enter_context(tempfile.TemporaryDirectory(prefix="llava_som_eval_"))
        raw_runs = _run(config, model, Path(workspace).resolve())
    finished = [raw for raw in raw_runs if raw is not None]
    if not finished:
        return None
    scores: list[Score] = []
    samples: list[Sample] = []
    for raw in finished:
        new_scores, new_samples = read_lmms_eval(raw, config.seed)
        scores += new_scores
        samples += new_samples
    decoding = {name: _decoding(settings) for raw in finished for name, settings in raw["configs"].items()}
    return Results(scores, samples, _circumstances(config, decoding, time.perf_counter() - started))


def _run(config: EvalConfig, model: Assistant | lmms | None, workspace: Path) -> list[dict[str, Any] | None]:
    """What lmms-eval returns, for the tasks that generate and for those that score given answers."""
    from lmms_eval.api.model import lmms

    from eval.model import LlavaSomChat, LlavaSomSimple
    from eval.task_index import find_tasks, needs_likelihood

    index, names = find_tasks(config, workspace)
    if isinstance(model, lmms):
        return [_simple_evaluate(config, model, names, index)]
    scoring = [name for name in names if needs_likelihood(index, name)]
    generating = [name for name in names if name not in scoring]
    if model is None:
        log.info("Loading %s ...", config.model)
        model = LlavaSomChat(
            config.model,
            device=config.device,
            dtype=config.dtype,
            attn_implementation=config.attn_implementation,
            pruning=config.pruning,
        ).assistant
    return [
        _simple_evaluate(config, adapter(assistant=model, batch_size=config.batch_size), chosen, index)
        for adapter, chosen in ((LlavaSomChat, generating), (LlavaSomSimple, scoring))
        if chosen
    ]


def _simple_evaluate(config: EvalConfig, model: lmms, names: list[str], index: TaskManager) -> dict[str, Any] | None:
    from lmms_eval.evaluator import simple_evaluate
    from tenacity import RetryError

    try:
        return simple_evaluate(
            model=model,
            model_args=_fingerprint(config) if config.cache else None,
            tasks=names,
            task_manager=index,
            batch_size=config.batch_size,
            limit=config.limit,
            use_cache=None if model.is_simple else config.cache,  # its cache cannot hold likelihoods
            gen_kwargs=f"max_new_tokens={config.max_new_tokens}" if config.max_new_tokens else None,
            random_seed=config.seed,
            numpy_random_seed=config.seed,
            torch_random_seed=config.seed,
            fewshot_random_seed=config.seed,
            bootstrap_iters=100,
        )
    except RetryError as error:  # lmms-eval tries data sets several times; what went wrong is inside
        cause = error.last_attempt.exception() or error
        if isinstance(cause, OSError):
            remedy = "Run once with a network connection; the hub's cache serves later runs."
            raise ValueError(f"The data of {', '.join(names)} cannot be read: {cause}. {remedy}") from cause
        raise cause from None


def _import_lmms_eval() -> None:
    """Import it and keep only its errors: its warnings are about optional packages of other models."""
    if "lmms_eval.evaluator" in sys.modules:
        return
    log.info("Importing lmms-eval (up to 40 s) ...")
    import lmms_eval.evaluator  # noqa: F401
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="ERROR", format="{message}")


def _fingerprint(config: EvalConfig) -> dict[str, Any]:
    """What cached answers depend on besides the task: the weights on disk and how they are loaded."""
    files = sorted(file for file in Path(config.model).glob("*") if file.suffix in (".safetensors", ".json", ".jinja"))
    stats = {file.name: [(stat := file.stat()).st_size, stat.st_mtime_ns] for file in files}
    loading = {"dtype": config.dtype, "attention": config.attn_implementation, "pruning": config.pruning}
    return {"model": config.model, "files": stats, **loading}


def _circumstances(config: EvalConfig, decoding: dict[str, str], seconds: float) -> dict[str, Any]:
    return {
        "model": config.model or "(in memory)",
        "command": _command(config),
        "decoding": decoding,
        "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": _machine(),
    }


def _command(config: EvalConfig) -> str:
    """The command line that repeats the run."""
    options = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            options.append(f"{field.name}={','.join(value) if isinstance(value, list) else value}")
    return " ".join(["python -m eval", *options])


def _decoding(task_config: dict[str, Any]) -> str:
    from eval.model import generation_options

    if task_config.get("output_type") in ("multiple_choice", "loglikelihood"):
        return "likelihood of the given answers"
    options = generation_options(task_config.get("generation_kwargs") or {})
    mode = "sampling" if options.pop("do_sample", False) else "greedy"
    return ", ".join([mode, *(f"{key}={value}" for key, value in options.items())])


def _machine() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"system": platform.platform(), "cpus": os.cpu_count(), "gpus": gpus}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"

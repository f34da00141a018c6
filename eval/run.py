"""From a configuration to results: finds the tasks, lets lmms-eval run the model on them, and reads what it measured.

`evaluate` may be called many times in one process, with a loaded model; lmms-eval, slow to import, is imported once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from eval.config import EvalConfig
from eval.effect import Effect, counted, effect_of
from eval.paired import score_differences
from eval.results import Paired, Results, Sample, Score, read_lmms_eval

if TYPE_CHECKING:
    from lmms_eval.api.model import lmms
    from lmms_eval.tasks import TaskManager

    from llava_som.attention.base import Intervention
    from llava_som.inference import Assistant

PACKAGES = ("llava_som", "lmms_eval", "torch", "transformers", "datasets")

log = logging.getLogger(__name__)


def evaluate(config: EvalConfig, model: Assistant | lmms | None = None) -> Results | None:
    """Run the tasks of `config`.

    Args:
        config: what to measure and how.
        model: a loaded assistant, or any lmms-eval model; by default `config.model` is loaded. The intervention of an
            assistant is as good as `config.intervention`.

    Returns:
        The results; None on every rank but the first when started by `torchrun`. With an intervention, every task has
        run without it first: `Results.paired`.

    Raises:
        ValueError: no model, an unknown task, data that is missing or malformed, `cache` for a model in memory, an
            intervention that does not exist or does not fit.
    """
    if model is None and not config.model:
        raise ValueError("Which model? Add model=PATH, a folder with a config.json.")
    if model is not None and config.cache:
        raise ValueError("cache= needs model=PATH: the weights of a model in memory may change unnoticed.")
    chosen = _intervention(config, model)
    _import_lmms_eval()
    from lmms_eval.api.model import lmms

    from eval.task_index import find_tasks

    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        workspace = config.cache or stack.enter_context(tempfile.TemporaryDirectory(prefix="llava_som_eval_"))
        index, names = find_tasks(config, Path(workspace).resolve())
        plain: list[dict[str, Any]] = []
        effect, attention = None, "of the given model"
        if isinstance(model, lmms):
            raws = _finished([_simple_evaluate(config, model, names, index)])
        else:
            assistant = _load(config) if model is None else model
            raws, plain, effect = _run(config, assistant, chosen, names, index)
            attention = _attention(assistant)
    if not raws:
        return None
    scores, samples = _read(raws, config.seed)
    paired = None
    details: dict[str, Any] = {
        "decoding": {name: _decoding(settings) for raw in raws for name, settings in raw["configs"].items()},
        "attention": attention,
    }
    if effect is not None:
        paired = Paired(*_read(plain, config.seed), score_differences(plain, raws, config.seed), effect)
        details["intervention"] = effect.settings
    return Results(scores, samples, _circumstances(config, details, time.perf_counter() - started), paired)


def _intervention(config: EvalConfig, model: Assistant | lmms | None) -> Intervention | None:
    """The intervention, before anything slow begins."""
    from llava_som.attention import build_intervention
    from llava_som.inference import Assistant

    chosen = build_intervention(config.intervention)
    own = model.intervention if isinstance(model, Assistant) else None
    if chosen is None:
        return build_intervention(own)
    if own is not None:
        raise ValueError("The assistant has an intervention already. Leave intervention= out, or load it without one.")
    if model is not None and not isinstance(model, Assistant):
        raise ValueError(f"intervention={chosen.name}: needs a model of ours, given as model=PATH or as an Assistant.")
    return chosen


def _load(config: EvalConfig) -> Assistant:
    from eval.model import LlavaSomChat

    log.info("Loading %s ...", config.model)
    return LlavaSomChat(
        config.model,
        device=config.device,
        dtype=config.dtype,
        attn_implementation=config.attn_implementation,
        pruning=config.pruning,
    ).assistant


def _run(
    config: EvalConfig, assistant: Assistant, chosen: Intervention | None, names: list[str], index: TaskManager
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Effect | None]:
    """What lmms-eval returns with the intervention, what it returns without, and what the intervention did.

    Without one there is the first of these alone. On every rank but the first both lists are empty.
    """
    if chosen is None:
        return _all_tasks(config, assistant, names, index)[0], [], None
    fitted = dataclasses.replace(assistant, intervention=chosen).intervention  # an error comes before the first answer
    bare = assistant if assistant.intervention is None else dataclasses.replace(assistant, intervention=None)
    log.info("Without %s ...", chosen.name)
    plain, _ = _all_tasks(config, bare, names, index)
    log.info("With %s ...", chosen.name)
    with counted(cast("Intervention", fitted), bare.model) as run:
        raws, requests = _all_tasks(config, bare, names, index, repr(fitted))
    effect = effect_of(run, requests, has_cache=config.cache is not None)
    for note in effect.notes if raws else ():  # every rank has the same ones
        log.warning(note)
    return raws, plain, effect


def _all_tasks(
    config: EvalConfig, assistant: Assistant, names: list[str], index: TaskManager, intervention: str = ""
) -> tuple[list[dict[str, Any]], int]:
    """What lmms-eval returns for tasks that generate and for those that score given answers, and how many it asked."""
    from eval.model import LlavaSomChat, LlavaSomSimple
    from eval.task_index import needs_likelihood

    scoring = [name for name in names if needs_likelihood(index, name)]
    generating = [name for name in names if name not in scoring]
    raws, answered = [], 0
    for adapter, chosen in ((LlavaSomChat, generating), (LlavaSomSimple, scoring)):
        if chosen:
            model = adapter(assistant=assistant, batch_size=config.batch_size)
            raws.append(_simple_evaluate(config, model, chosen, index, intervention))
            answered += model.answered
    return _finished(raws), answered


def _finished(raws: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return [raw for raw in raws if raw is not None]


def _read(raws: list[dict[str, Any]], seed: int) -> tuple[list[Score], list[Sample]]:
    scores: list[Score] = []
    samples: list[Sample] = []
    for raw in raws:
        new_scores, new_samples = read_lmms_eval(raw, seed)
        scores += new_scores
        samples += new_samples
    return scores, samples


def _simple_evaluate(
    config: EvalConfig, model: lmms, names: list[str], index: TaskManager, intervention: str = ""
) -> dict[str, Any] | None:
    from lmms_eval.evaluator import simple_evaluate
    from tenacity import RetryError

    try:
        return simple_evaluate(
            model=model,
            model_args=_fingerprint(config, intervention) if config.cache else None,
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


def _fingerprint(config: EvalConfig, intervention: str) -> dict[str, Any]:
    """What cached answers depend on besides the task: the weights on disk, how they are loaded, and every option of the
    intervention that is on them.
    """
    files = sorted(file for file in Path(config.model).glob("*") if file.suffix in (".safetensors", ".json", ".jinja"))
    stats = {file.name: [(stat := file.stat()).st_size, stat.st_mtime_ns] for file in files}
    loading = {"dtype": config.dtype, "attention": config.attn_implementation, "pruning": config.pruning}
    if intervention:
        loading["intervention"] = intervention
    return {"model": config.model, "files": stats, **loading}


def _attention(assistant: Assistant) -> str:
    """The backend of the decoder's attention: paired runs have the same, runs of other people perhaps not."""
    from llava_som.attention.decoder import DecoderLayers

    model = assistant.model
    backend = DecoderLayers.of(model).decoder.config._attn_implementation
    return f"{backend}, {str(model.dtype).removeprefix('torch.')}, {model.device.type}"


def _circumstances(config: EvalConfig, details: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "model": config.model or "(in memory)",
        "command": _command(config),
        **details,
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
            options.append(shlex.quote(f"{field.name}={_as_yaml(value)}"))
    return " ".join(["python -m eval", *options])


def _as_yaml(value: Any) -> str:
    return json.dumps(value, default=repr) if isinstance(value, dict | list) else str(value)


def _decoding(task_config: dict[str, Any]) -> str:
    from eval.model import generation_options

    if task_config.get("output_type") in ("multiple_choice", "loglikelihood"):
        return "likelihood of the given answers"
    options = generation_options(task_config.get("generation_kwargs") or {})
    mode = "sampling" if options.pop("do_sample", False) else "greedy"
    if options.get("num_beams", 1) > 1:
        mode = "beam search" if mode == "greedy" else "beam search with sampling"
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

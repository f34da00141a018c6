"""Everything a GPU changes, checked and timed in one script: parity with the CPU, attention kernels, 7B-shaped speed.

It needs only packages that are already importable (the ranges of setup.py), installs nothing, and writes one JSON.

    make gpu                                        # the whole suite, under 9 minutes
    python scripts/gpu_suite.py --device cpu        # the same code on a small model, to test the suite itself
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_model import SEVEN_B, SMALL, build, inputs_for, measure_inference, measure_training
from gpu_attention import check_attention
from gpu_data import check_data_models
from measure import circumstances, write_results

BUDGET_S = 480.0
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 6e-2}


def check_parity(device: str) -> dict[str, Any]:
    """Logits of each precision and attention kernel against float32 SDPA on the CPU, relative to their size."""
    reference_model, _ = build(SMALL, "cpu", torch.float32)
    inputs = inputs_for(reference_model, text_tokens=32, batch=2)
    with torch.inference_mode():
        reference = reference_model(**inputs).logits
    scale = reference.abs().max()
    findings: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for kernel in _kernels(device, dtype):
            model, _ = build(SMALL, "cpu", torch.float32)
            model.set_attn_implementation(kernel)
            model = model.to(device, dtype)
            on_device = {key: value.to(device) for key, value in inputs.items()}
            on_device["pixel_values"] = on_device["pixel_values"].to(dtype)
            with torch.inference_mode():
                logits = model(**on_device).logits.float().cpu()
            error = ((logits - reference).abs().max() / scale).item()
            name = f"{str(dtype).removeprefix('torch.')}_{kernel}"
            findings[name] = {"relative_error": error, "allowed": TOLERANCE[dtype], "ok": error <= TOLERANCE[dtype]}
    return findings


def check_gradients(device: str) -> dict[str, Any]:
    """Gradients in float32 on the device against the CPU, and the zero-weight vision path of a batch without images."""
    gradients = []
    for place in ("cpu", device):
        model, _ = build(SMALL, "cpu", torch.float32)
        model = model.to(place).train()
        inputs = inputs_for(model, text_tokens=32)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        gradients.append({name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None})
    error = max(((gradients[1][name] - g).norm() / (g.norm() + 1e-12)).item() for name, g in gradients[0].items())
    model.zero_grad(set_to_none=True)
    text_only = torch.randint(2, 4000, (1, 16), device=device)
    model(input_ids=text_only, labels=text_only).loss.backward()
    projector = [p.grad for p in model.multi_modal_projector.parameters()]
    touched = all(g is not None and not g.any() for g in projector)
    return {
        "relative_error": error,
        "allowed": 1e-3,
        "text_only_touches_vision": touched,
        "ok": error < 1e-3 and touched,
    }


def time_model(device: str) -> dict[str, Any]:
    """Prefill, decoding and a training step beside transformers' own LLaVA."""
    shape, dtype = (SMALL, torch.float32) if device == "cpu" else (SEVEN_B, torch.bfloat16)
    ours, theirs = build(shape, device, dtype)
    findings = {"parameters": sum(p.numel() for p in ours.parameters()), "dtype": str(dtype)}
    findings["inference"] = measure_inference(ours, theirs, device, repeats=9, new_tokens=32)
    ours.gradient_checkpointing_enable()
    theirs.gradient_checkpointing_enable()
    findings["training_with_checkpointing"] = measure_training(ours, theirs, device, repeats=5)
    if device != "cpu":
        findings["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return findings


SECTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "parity": check_parity,
    "gradients": check_gradients,
    "data_models": check_data_models,
    "attention": check_attention,
    "speed": time_model,
}


def _kernels(device: str, dtype: torch.dtype) -> list[str]:
    from transformers.utils import is_flash_attn_2_available

    kernels = ["sdpa", "eager"]
    if device != "cpu" and dtype == torch.bfloat16 and is_flash_attn_2_available():
        kernels.append("flash_attention_2")
    return kernels


def run_sections(device: str, names: list[str]) -> dict[str, Any]:
    """Each section's findings; a section that fails is recorded with its error, one past the budget as not run."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 is compared as float32
    results: dict[str, Any] = {**circumstances(), "device": device}
    if device != "cpu":
        results["gpu"] = torch.cuda.get_device_name()
    start = time.perf_counter()
    for name in names:
        began = time.perf_counter()
        print(f"== {name}", flush=True)
        if began - start > BUDGET_S:
            results[name] = {"not_run": f"the budget of {BUDGET_S:.0f} s was spent"}
            continue
        try:
            results[name] = SECTIONS[name](device)
        except torch.OutOfMemoryError:
            results[name] = {"not_run": "this GPU has too little memory for it"}
        except Exception as error:  # one broken section must not lose the measurements of the others
            traceback.print_exc()
            results[name] = {"error": repr(error)}
        results[name]["seconds"] = round(time.perf_counter() - began, 1)
        print(results[name], flush=True)
    return results


def failures(results: dict[str, Any]) -> list[str]:
    """The sections and checks that are not as they should be."""
    failed = []
    for section in SECTIONS:
        found = results.get(section, {})
        checks = {section: found, **{f"{section}.{k}": v for k, v in found.items() if isinstance(v, dict)}}
        failed += [name for name, check in checks.items() if "error" in check or check.get("ok") is False]
    return failed


def main() -> int:
    """Run the suite; 0 when all checks hold or there is no GPU, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"default: {' '.join(SECTIONS)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="default: scripts/results/gpu_<name>.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section called {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    if arguments.device != "cpu" and not torch.cuda.is_available():
        print("No GPU here: nothing to check. (--device cpu runs the suite on a small model.)")
        return 0
    results = run_sections(arguments.device, arguments.sections or list(SECTIONS))
    name = results.get("gpu", "cpu").lower().replace(" ", "_")
    write_results(results, arguments.out or Path(__file__).parent / "results" / f"gpu_{name}.json")
    if failed := failures(results):
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What a GPU changes about interventions on attention: which kernels give parts, whether they agree, what they cost.

The inputs and the released code's loop are those of bench_attention.py, the layers those of a 7B model in bfloat16.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from attention_cases import Attention, Reader, Shape, llama, prompt_ids, sibling
from bench_attention import KEY_HEADS, act, measure_model, measure_op, over, var
from bench_model import timed
from measure import interleaved_ms

from llava_som.attention import partials
from llava_som.attention.explicit_rows import Step
from llava_som.attention.stats import Tally

LARGE, SMALL = (651, 1024, 2048), (651,)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}  # relative to the largest value
WIDTH = 128


def check_attention(device: str) -> dict[str, Any]:
    """Kernels, agreement of the routes, the operation alone, whole layers, and layers under other kernels than SDPA."""
    sizes, repeats = (SMALL, 1) if device == "cpu" else (LARGE, 9)
    shape = (512, 512, 6) if device == "cpu" else (4096, 11008, 6)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    found: dict[str, Any] = {"kernels": kernels_of(device)}
    with torch.inference_mode():
        for kind, key_heads in KEY_HEADS.items():
            found[f"agreement {kind}"] = agreement(device, key_heads, sizes[0] if device == "cpu" else 1024)
        for kind, key_heads in KEY_HEADS.items():
            model = llama(Shape(*shape, key_heads), dtype, device)
            for length in sizes:
                name = f"{length} {kind}"
                found[f"operation {name}"] = measure_op(length, kind, dtype, device, repeats)
                found[f"model {name}"] = measure_model(model, length, device, repeats, steps=3 * repeats)
            for implementation in ("flash_attention_2", "flex_attention"):
                found[f"{implementation} {kind}"] = under(model, implementation, sizes[-1], device, repeats)
            del model
    return found


def kernels_of(device: str) -> dict[str, Any]:
    """Which kernel gives parts of the attention, by precision, and which others would."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for kind, is_grouped in (("MHA", False), ("GQA", True)):
            chosen = partials._kernel(device, dtype, WIDTH, is_grouped).__name__
            agree = [
                k.__name__ for k in partials.KERNELS[device] if partials._agrees(k, device, dtype, WIDTH, is_grouped)
            ]
            found[f"{str(dtype).removeprefix('torch.')} {kind}"] = {"chosen": chosen, "agree": agree}
    return found


def agreement(device: str, key_heads: int, length: int) -> dict[str, Any]:
    """Both routes in float64 against whole weights, and in float32 against that; one prompt and the token after it."""
    errors: dict[str, float] = {}
    for dtype, allowed in TOLERANCE.items():
        for method in (var, act):
            case = Attention.of_prompt(length, key_heads, torch.float64, device)
            wanted = _from_whole_weights(case, method())
            case = Attention.of_prompt(length, key_heads, dtype, device)
            for route in ("rows", "fused"):
                found = case.edited(method(route=route))
                error = ((found - wanted).abs().max() / wanted.abs().max()).item()
                errors[f"{method().name} {route} {str(dtype).removeprefix('torch.')}"] = error / allowed
            if method is var:  # sinks of ACT are those of the prompt, with or without its last token
                error = ((case.next_token([method()]).edited(method()) - wanted[:, -1:]).abs().max()).item()
                errors[f"{method().name} decoding {str(dtype).removeprefix('torch.')}"] = error / allowed
    return {"length": length, "error_over_allowed": errors, "ok": max(errors.values()) <= 1}


def _from_whole_weights(case: Attention, method: Any) -> torch.Tensor:
    call = case.call()
    length = case.key.shape[2]
    weights = call.weights(call.scores(slice(0, length), length))
    Step.of(method, call, Tally())
    edited = method.reweight(weights, case.hidden, case.prompt.tokens.is_image)
    return call.times_values(edited).transpose(1, 2)


def under(model: Any, implementation: str, length: int, device: str, repeats: int) -> dict[str, Any]:
    """A model whose own attention is another kernel's, with and without VAR."""
    try:
        models = {name: sibling(model, implementation) for name in ("none", "VAR")}
    except (ImportError, ValueError) as error:
        return {"not_run": str(error).splitlines()[0]}
    readers = {name: Reader(other, prompt_ids(length, device)) for name, other in models.items()}
    with ExitStack() as stack:
        run = stack.enter_context(var().on(models["VAR"]))
        try:
            reads = {name: timed(reader.read, device) for name, reader in readers.items()}
            prefill = interleaved_ms(reads, repeats, warmup=2)
            decode = interleaved_ms(
                {name: timed(reader.step, device) for name, reader in readers.items()}, 3 * repeats, 3
            )
        except (RuntimeError, ImportError, ValueError, TypeError) as error:
            return {"not_run": repr(error)[:300]}
    return {
        "length": length,
        "rows_changed": sum(run.changed.values()),
        "prefill": over(prefill, "none"),
        "decode": over(decode, "none"),
    }

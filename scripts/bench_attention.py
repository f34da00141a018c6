"""Interventions on attention: time and memory beside SDPA without any, eager attention, and the released code's loop.

    python scripts/bench.py attention                        # all of it, about 12 minutes on two cores
    python scripts/bench_attention.py 651 --parts model      # one size, one part, printed

All figures are ratios in one run. VAR has the paper's preset and its layers; the loop edits the same layers, a lower
bound of the released code (see published_loop.py). The Llama has 6 layers of width 2048, 32 heads of 64 and an MLP of
5504, as in a 7B model of that width; the operation alone has 32 heads of 128.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from attention_cases import DIMS, TAU_REL, Attention, Reader, Shape, is_image, llama, prompt_ids, sibling
from bench_model import timed
from measure import in_fresh_process, interleaved_ms, peak_memory
from published_loop import act_in_place, eager, published_var, var_in_place

from llava_som.attention.act import ACT
from llava_som.attention.sinks import sink_value
from llava_som.attention.stats import Tally
from llava_som.attention.var import VAR

SIZES = (651, 1024, 2048)
KEY_HEADS = {"MHA": 32, "GQA": 8}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ACT_HEADS = [0, 5, 11, 17, 22, 31]
LOOP, ACT_LOOP = "eager + VAR as released", "eager + ACT as released"
TARGETS = {  # part, stage, way, most that it may be times SDPA; hooks alone weigh most in decoding
    "prefill, operation": ("operation", "prefill", "VAR", 1.3),
    "prefill, model": ("model", "prefill", "VAR", 1.15),
    "decode, model": ("model", "decode", "VAR", 1.10),
    "ACT prefill, model": ("model", "prefill", "ACT", 1.25),
    "no layer edited": ("model", "decode", "no layer edited", 1.02),
    "no image": ("model", "decode", "VAR, no image", 1.02),
}
LEAST_SPEEDUP = 3.0
_MMAP_THRESHOLD = -3  # its number in malloc.h
MODEL_CASES = (("GQA", "float32"), ("MHA", "bfloat16"))  # at every size; the others at the smallest alone


def var(**options: Any) -> VAR:
    """VAR as published, with the sink dimensions of these inputs."""
    return VAR(sink_dims=DIMS, tau_rel=TAU_REL, **options)


def act(**options: Any) -> ACT:
    """ACT in 6 of 32 heads."""
    return ACT(heads=ACT_HEADS, **options)


def measure_op(length: int, kind: str, dtype: torch.dtype, device: str, repeats: int) -> dict[str, Any]:
    """The attention operation alone: a prompt, and the token after it."""
    case = Attention.of_prompt(length, KEY_HEADS[kind], dtype, device)
    fired = {method.name: _changed(case, method) for method in (var(), act())}
    prefill = interleaved_ms(_timed(op_calls(case, ("auto", "rows", "fused")), device), repeats, warmup=0)
    token = case.next_token([var(), act()])
    fired |= {f"{method.name}, decode": _changed(token, method) for method in (var(), act())}
    calls = _timed(op_calls(token, ("auto",)), device)
    slow = {
        name: calls.pop(name) for name in ("eager", LOOP)
    }  # by themselves: they leave nothing in the processor's cache
    steps = interleaved_ms(calls, 10 * repeats, warmup=3) | interleaved_ms(slow, 10 * repeats, warmup=3)
    return {"rows_changed": fired, "prefill": over(prefill, "sdpa"), "decode": over(steps, "sdpa")}


def op_calls(case: Attention, routes: Sequence[str]) -> dict[str, Callable[[], object]]:
    """Every way to compute one attention call. ACT as released edits prompts only."""
    tensors, mask = (case.query, case.key, case.value), case.causal_mask()
    chosen = is_image(case.key.shape[2])[0].to(case.query.device)
    known = sink_value(case.hidden, DIMS)[0] > 20 if case.query.shape[2] > 1 else case.prompt.found[3, "sink"][0]

    def loop(weights: torch.Tensor) -> None:
        is_sink = sink_value(case.hidden, DIMS)[0] > 20 if weights.shape[2] > 1 else known
        var_in_place(weights, is_sink, chosen)

    def act_loop(weights: torch.Tensor) -> None:
        act_in_place(weights, ACT_HEADS, limit=5 / weights.shape[3])

    calls: dict[str, Callable[[], object]] = {
        "sdpa": case.sdpa,
        "eager": lambda: eager(*tensors, mask, case.scaling),
        LOOP: lambda: eager(*tensors, mask, case.scaling, loop),
    }
    for method in (var, act):
        for route in routes:
            bound = method(route=route)
            name = bound.name if route == "auto" else f"{bound.name}, {route}"
            calls[name] = lambda bound=bound: case.edited(bound)
    if mask is not None:
        calls[ACT_LOOP] = lambda: eager(*tensors, mask, case.scaling, act_loop)
    return calls


def measure_model(model: Any, length: int, device: str, repeats: int, steps: int) -> dict[str, Any]:
    """A whole Llama: a prompt, and a token after it. Slow ways are measured once, everything else `repeats` times."""
    depth = model.config.num_hidden_layers
    middle = [1, depth // 2, depth - 2]
    ways = {
        "no layer edited": var(layers=[]),
        "VAR, no image": var(),
        "VAR": var(),
        "VAR, 3 layers": var(layers=middle),
        "ACT": act(layers=list(range(depth))),
    }
    readers = {"sdpa": Reader(sibling(model), prompt_ids(length, device))}
    with ExitStack() as stack, torch.inference_mode():
        warnings.simplefilter("ignore", UserWarning)  # of those that are to change nothing
        runs = {}
        for name, method in ways.items():
            readers[name] = Reader(sibling(model), prompt_ids(length, device, has_image=name != "VAR, no image"))
            runs[name] = stack.enter_context(method.on(readers[name].model))
        readers["eager"] = Reader(sibling(model, "eager"), prompt_ids(length, device))
        readers[LOOP] = Reader(sibling(model, "eager"), prompt_ids(length, device))
        chosen = is_image(length)[0].to(device)
        counts = stack.enter_context(published_var(readers[LOOP].model, range(depth - 1), DIMS, chosen))
        slow = {name: readers[name].read for name in ("sdpa", "eager", LOOP)}
        fast = {name: readers[name].read for name in ("sdpa", *ways)}
        slow_ms = interleaved_ms(_timed(slow, device), 1, warmup=0)
        prefill = interleaved_ms(_timed(fast, device), repeats, warmup=0)
        fired = {name: run.changed for name, run in runs.items()}
        tokens = interleaved_ms(
            _timed({name: reader.step for name, reader in readers.items()}, device), steps, warmup=2
        )
        rows = {name: sum(run.changed.values()) for name, run in runs.items()}
    by_sdpa = {name: round(ms / slow_ms["sdpa"], 3) for name, ms in slow_ms.items() if name != "sdpa"}
    found = over(prefill, "sdpa")
    changed = {
        name: [sum(fired[name].values()) // repeats, (rows[name] - sum(fired[name].values())) // (steps + 2)]
        for name in rows
    }
    changed[LOOP] = [sum(counts[: depth - 1]), sum(counts[depth - 1 :]) // (steps + 2)]
    return {
        "rows_changed_in_prompt_and_step": changed,
        "prefill": {"ms": found["ms"] | slow_ms | {"sdpa": prefill["sdpa"]}, "over_sdpa": found["over_sdpa"] | by_sdpa},
        "decode": over(tokens, "sdpa"),
    }


def over(ms: dict[str, float], base: str) -> dict[str, Any]:
    """Milliseconds, and how many times those of `base`."""
    return {"ms": ms, f"over_{base}": {name: round(value / ms[base], 3) for name, value in ms.items() if name != base}}


def measure_memory(lengths: Sequence[int] = (2048, 4096)) -> dict[str, Any]:
    """Peak of a prefill through one layer, in processes of their own; an AssertionError where it is not O(T).

    Twice the tokens may take little more than twice the memory, a matrix of T x T would take four times as much; and an
    intervention may not add more than a tenth of the weights of all heads in float32.
    """
    ways = ("none", "VAR", "VAR, rows", "ACT")
    peaks = {way: {length: in_fresh_process(_peak_of, way, length) for length in lengths} for way in ways}
    shorter, longer = lengths[0], lengths[-1]
    weights = 32 * longer**2 * 4 // 2**20
    added = {way: mib[longer] - peaks["none"][longer] for way, mib in peaks.items() if way != "none"}
    for way, mib in peaks.items():
        assert mib[longer] < 1.3 * mib[shorter] * longer / shorter, (
            f"{way} takes {mib} MiB: not in proportion to tokens"
        )
        assert added.get(way, 0) < weights / 10, f"{way} adds {added[way]} MiB, weights of all heads are {weights}"
    return {"peak_mib": peaks, "added_mib": added, "weights_of_all_heads_mib": weights}


def _peak_of(way: str, length: int) -> int:
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**20)  # memory that is freed is given back: no holes are counted
    torch.set_num_threads(2)
    model = sibling(llama(Shape(2048, 64, 1, 8), torch.float32))  # hardly an MLP, which would hide attention's peak
    methods = {"VAR": var(layers=[0]), "VAR, rows": var(layers=[0], route="rows"), "ACT": act(layers=[0])}
    reader = Reader(model, prompt_ids(length))
    with torch.inference_mode(), ExitStack() as stack:
        runs = [stack.enter_context(methods[way].on(model))] if way in methods else []
        Reader(model, prompt_ids(700)).read()  # what is loaded once
        with peak_memory() as peak:
            reader.read()
        assert all(sum(run.changed.values()) for run in runs), "nothing was edited"
    return peak()


def verdicts(results: dict[str, Any]) -> dict[str, Any]:
    """The worst case of each target; the loop is compared for the operation, as most of a model's time is elsewhere."""
    found = {}
    for target, (part, stage, way, most) in TARGETS.items():
        ratios = {name: case[stage]["over_sdpa"][way] for name, case in results.get(part, {}).items()}
        found[target] = _verdict(ratios, max, most, "most")
    for stage, kinds in (("prefill", tuple(KEY_HEADS)), ("decode", ("GQA",))):
        cases = {
            name: case[stage]["ms"] for name, case in results.get("operation", {}).items() if name.split()[1] in kinds
        }
        speedups = {name: ms[LOOP] / ms["VAR"] for name, ms in cases.items()}
        found[f"{stage} of {' and '.join(kinds)}, times faster than the loop"] = _verdict(
            speedups, min, LEAST_SPEEDUP, "least"
        )
    return {name: verdict for name, verdict in found.items() if verdict}


def _verdict(values: dict[str, float], worst_of: Any, allowed: float, word: str) -> dict[str, Any]:
    if not values:
        return {}
    name = worst_of(values, key=values.__getitem__)
    is_met = values[name] <= allowed if word == "most" else values[name] >= allowed
    return {"worst": round(values[name], 3), "in": name, f"at_{word}": allowed, "met": is_met}


def _changed(case: Attention, method: VAR | ACT) -> str:
    tally = Tally()
    case.edited(method, tally)
    report = tally.read()
    return f"{report.changed} of {report.looked_at}"


def _timed(calls: dict[str, Callable[[], object]], device: str) -> dict[str, Callable[[], object]]:
    return {name: timed(call, device) for name, call in calls.items()}


def run_operation(sizes: Sequence[int], repeats: int) -> dict[str, Any]:
    """All sizes, both kinds of heads, both precisions."""
    with torch.inference_mode():
        return {
            f"{length} {kind} {name}": measure_op(length, kind, dtype, "cpu", repeats)
            for name, dtype in DTYPES.items()
            for kind in KEY_HEADS
            for length in sizes
        }


def run_model(sizes: Sequence[int], repeats: int, shape: tuple[int, int, int] = (2048, 5504, 6)) -> dict[str, Any]:
    """Each size in two cases, the first in all four."""
    found = {}
    for name, dtype in DTYPES.items():
        for kind, key_heads in KEY_HEADS.items():
            model = llama(Shape(*shape, key_heads), dtype)
            for length in sizes if (kind, name) in MODEL_CASES else sizes[:1]:
                found[f"{length} {kind} {name}"] = measure_model(model, length, "cpu", repeats, steps=25)
    return found


def run(
    sizes: Sequence[int] = SIZES, repeats: int = 3, parts: Sequence[str] = ("operation", "model", "memory")
) -> dict:
    """All of it, or some parts."""
    torch.set_num_threads(2)
    results: dict[str, Any] = {"repeats": repeats}
    if "memory" in parts:
        results["memory"] = measure_memory()
    if "operation" in parts:
        results["operation"] = run_operation(sizes, repeats)
    if "model" in parts:
        results["model"] = run_model(sizes, repeats)
    return {**results, "targets": verdicts(results)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sizes", nargs="*", type=int, default=list(SIZES), metavar="tokens", help="default: %(default)s"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["operation", "model", "memory"])
    print(json.dumps(run(**vars(parser.parse_args())), indent=1))

"""Edited attention of one layer, in one of two ways that give the same.

`rows`: the decoder's own function does everything, then the rows that are edited are computed again explicitly
(llava_som.attention.explicit_rows). `fused`: the keys of each prompt are cut into ranges that fused kernels compute
(llava_som.attention.cut_prompt), where its mask allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llava_som.attention.base import KeyGroups
from llava_som.attention.call import LayerCall
from llava_som.attention.cut_prompt import CutPrompt
from llava_som.attention.explicit_rows import ROWS, Step, edited_rows

_FEW = ROWS  # edited rows, up to which computing them twice costs less than cutting the prompt


def attend(call: LayerCall, steps: Sequence[Step], original: Callable[[int], Tensor], route: str) -> Tensor:
    """Edited attention of a layer, `[B, H, Q, dv]`.

    Args:
        call: the attention call.
        steps: the interventions, in order.
        original: computes the unedited attention of the first `n` queries, or of all: `n -> [B, H, n, dv]`.
        route: "fused" where it can be, "rows", or "auto".
    """
    length = call.query.shape[2]
    if length == 1:  # without asking the device anything: rows that are left alone get coefficients of 1
        return edited_rows(call, steps, slice(0, 1))
    first = min(int(step.first_row.min()) for step in steps) - call.past
    if first >= length:
        return original(length)
    first = max(first, 0)
    if route != "rows" and length - first > (0 if route == "fused" else _FEW):
        prompts = _cut(call, steps)
        if prompts is not None:
            outputs = [prompt.run().unsqueeze(0) for prompt in prompts]
            return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if first == 0:
        return edited_rows(call, steps, slice(0, length))
    return torch.cat([original(first), edited_rows(call, steps, slice(first, length))], dim=2)


def _cut(call: LayerCall, steps: Sequence[Step]) -> list[CutPrompt] | None:
    """The prompts of a call, cut; None where only explicit rows are right, or worth it."""
    window, length = call.options.get("sliding_window"), call.past + call.query.shape[2]
    is_plain = call.is_regular and call.offset == 0 and call.key.shape[2] == length
    is_plain = is_plain and call.options.get("softcap") is None and call.options.get("s_aux") is None
    is_plain = is_plain and (window is None or length <= window) and call.key.shape[-1] == call.value.shape[-1]
    if not is_plain or not all(isinstance(step.method, KeyGroups) for step in steps):
        return None
    prompts = []
    for row in range(len(call.query)):
        prompt = CutPrompt.of(call, steps, row)
        if prompt is None:
            return None
        prompts.append(prompt)
    return prompts

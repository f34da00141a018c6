"""What a model makes of the ends of prompts, and how far two such endings are apart: the measures of head attribution.

Ships of a query is the KL of its next token; Ships of a dataset is the angle between what the last tokens' states span
(arXiv 2410.13708).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llava_som.attention.decoder import DecoderLayers

Prompts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Ending:
    """What a model makes of the ends of N prompts.

    Attributes:
        log_probs: of the next token, `[N, V]`, or of those that are compared.
        states: of the last tokens, as the decoder's head reads them, `[N, D]`.
    """

    log_probs: Tensor
    states: Tensor


@torch.no_grad()
def read_ends(model: Any, prompts: Prompts, among: Sequence[int] | None = None) -> Ending:
    """Read prompts to their last tokens.

    Args:
        model: a causal language model of transformers.
        prompts: inputs of the model, each a batch.
        among: ids of the tokens that are compared; None: all.

    Returns:
        Log-probabilities and states in float64, on the CPU.
    """
    states: list[Tensor] = []
    decoder = DecoderLayers.of(model).decoder
    hook = decoder.register_forward_hook(lambda _module, _args, output: states.append(output.last_hidden_state))
    log_probs, last_states = [], []
    try:
        for inputs in prompts:
            states.clear()
            mask = inputs.get("attention_mask")
            length = inputs["input_ids"].shape[1] if mask is None else mask.shape[1]
            after = None if mask is None else mask.flip(1).int().argmax(dim=1)  # padding behind the last token
            at_end = after is None or not after.any()
            short = {"logits_to_keep": 1} if at_end and _keeps_logits(model) else {}
            logits = model(**inputs, use_cache=False, **short).logits
            log_probs.append(_at(logits, after, length)[:, _columns(among, logits)].double().log_softmax(dim=-1).cpu())
            last_states.append(_at(states[-1], after, length).double().cpu())
    finally:
        hook.remove()
    return Ending(torch.cat(log_probs), torch.cat(last_states))


def kl_divergence(log_probs: Tensor, others: Tensor) -> Tensor:
    """KL of distributions from others, in nats, `[N]`, given their logarithms `[N, V]`."""
    terms = log_probs.exp() * (log_probs - others)
    return torch.where(log_probs > -torch.inf, terms, 0.0).sum(dim=-1).clamp(min=0.0)


def principal_angles(states: Tensor, others: Tensor, rank: int) -> Tensor:
    """Angles between the spaces of the leading left singular vectors, in degrees, `[rank]`, the smallest first.

    Args:
        states: of the prompts' last tokens, `[N, D]`; the vectors say how directions of the states go over prompts.
        others: the same of another model.
        rank: how many vectors; less than N.
    """
    left, right = (torch.linalg.svd(part.double(), full_matrices=False).U[:, :rank] for part in (states, others))
    inner = left.T @ right
    cosines = torch.linalg.svdvals(inner)
    sines = torch.linalg.svdvals(right - left @ inner).flip(0)  # an arc cosine alone would lose small angles
    return torch.rad2deg(torch.atan2(sines, cosines))


def _at(values: Tensor, after: Tensor | None, length: int) -> Tensor:
    """`[B, L', W]` at the last tokens, `[B, W]`; L' may be 1, or less than `length` where the prompt was shortened."""
    if after is None or values.shape[1] == 1:
        return values[:, -1]
    if values.shape[1] != length and after.any():
        raise ValueError(
            f"The model shortened {length} tokens to {values.shape[1]}, so it is not known where prompts end. Pad on "
            "the left, or give prompts one by one."
        )
    after = after.to(values.device)
    return values[torch.arange(len(values), device=values.device), values.shape[1] - 1 - after]


def _columns(among: Sequence[int] | None, logits: Tensor) -> Any:
    if among is None:
        return slice(None)
    if wrong := [token for token in among if not 0 <= token < logits.shape[-1]]:
        raise ValueError(f"among={wrong}: the model has tokens 0 to {logits.shape[-1] - 1}.")
    return list(among)


def _keeps_logits(model: Any) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters

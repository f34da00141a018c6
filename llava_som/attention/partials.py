"""Attention over a part of the keys, with the logarithm of its normaliser, from whatever fused kernel there is.

Parts of a softmax are put together exactly from their outputs and log-sum-exps (LSE), the identity behind
FlashAttention and cascade inference; no kernel here stores a row of weights. Kernels that return the LSE are private
operators of PyTorch or other packages: each is trusted only after it has once agreed with plain matrix products on
this device and dtype, and those do the work where none is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

Partial = tuple[Tensor, Tensor]
Kernel = Callable[[Tensor, Tensor, Tensor, bool, float], Partial]
_ROWS = 64  # of a block of weights where matrix products do the work


def attend_part(query_HQd: Tensor, key_hKd: Tensor, value_hKd: Tensor, *, is_causal: bool, scaling: float) -> Partial:
    """Attention of Q tokens of one sample over K keys, and its LSE.

    Args:
        query_HQd: H heads.
        key_hKd: h heads, each shared by H / h neighbouring query heads.
        value_hKd: as the keys, of the same width.
        is_causal: query i sees keys 0 to i; Q and K are equal then. Otherwise every query sees every key.
        scaling: what logits are multiplied by.

    Returns:
        `[H, Q, d]` in the query's dtype, and the LSE `[H, Q]` in float32 (float64 of float64).
    """
    groups = len(query_HQd) // len(key_hKd)
    query = query_HQd.unflatten(0, (len(key_hKd), groups))
    key, value = (part.unsqueeze(1).expand(-1, groups, -1, -1) for part in (key_hKd, value_hKd))  # views, no copies
    kernel = _kernel(query.device.type, query.dtype, query.shape[-1], groups > 1)
    output, lse = kernel(query, key, value, is_causal, scaling)
    return output.flatten(0, 1), lse.flatten(0, 1)


def softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    """What weights, masses and LSEs are computed in: float32, or float64 where the model is."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _matrix_products(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float) -> Partial:
    outputs, lses = [], []
    places = torch.arange(key.shape[2], device=key.device)
    for start in range(0, query.shape[2], _ROWS):
        rows = query[:, :, start : start + _ROWS]
        scores = (rows @ key.transpose(-1, -2)).to(softmax_dtype(query.dtype)) * scaling
        if is_causal:
            scores.masked_fill_(places > places[start : start + _ROWS, None], -torch.inf)
        lses.append(scores.logsumexp(dim=-1))
        outputs.append(scores.softmax(dim=-1).to(value.dtype) @ value)
    return torch.cat(outputs, dim=2), torch.cat(lses, dim=2)


def _torch_cpu(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float) -> Partial:
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, 0.0, is_causal, scale=scaling)


def _torch_flash(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float) -> Partial:
    output, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, is_causal, False, scale=scaling
    )
    return output, lse[..., : query.shape[2]]


def _torch_efficient(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float) -> Partial:
    output, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, is_causal, scale=scaling
    )
    return output, lse[..., : query.shape[2]]  # padded to a multiple of 32 rows


def _flash_attn(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float) -> Partial:
    from flash_attn import flash_attn_func  # type: ignore[import-not-found]

    heads_last = [part.transpose(1, 2) for part in (query, key, value)]
    output, lse, _ = flash_attn_func(*heads_last, softmax_scale=scaling, causal=is_causal, return_attn_probs=True)
    return output.transpose(1, 2), lse


def _flex(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float) -> Partial:
    from torch.nn.attention.flex_attention import AuxRequest, create_block_mask

    mask = None
    if is_causal:
        length = query.shape[2]
        mask = create_block_mask(_sees, None, None, length, length, device=query.device)
    output, aux = _compiled_flex()(query, key, value, block_mask=mask, scale=scaling, return_aux=AuxRequest(lse=True))
    return output, aux.lse


def _sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key


@cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


KERNELS: dict[str, tuple[Kernel, ...]] = {
    "cpu": (_torch_cpu,),
    "cuda": (_flash_attn, _torch_flash, _torch_efficient, _flex),
}


@cache
def _kernel(device: str, dtype: torch.dtype, width: int, is_grouped: bool) -> Kernel:
    """The first kernel that agrees with matrix products there."""
    for kernel in KERNELS.get(device, ()):
        if _agrees(kernel, device, dtype, width, is_grouped):
            return kernel
    if KERNELS.get(device):
        warnings.warn(
            f"No fused attention kernel on {device} returns log-sum-exps for {dtype} and heads of {width}; "
            "interventions use matrix products, which are slower.",
            stacklevel=2,
        )
    return _matrix_products


def _agrees(kernel: Kernel, device: str, dtype: torch.dtype, width: int, is_grouped: bool) -> bool:
    generator = torch.Generator().manual_seed(0)
    groups, scaling = 2 if is_grouped else 1, width**-0.5
    query, key, value = (torch.randn(2, groups, 40, width, generator=generator).to(device, dtype) for _ in range(3))
    key, value = (part[:, :1].expand(-1, groups, -1, -1) for part in (key, value))
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-3}.get(dtype, 3e-2)
    try:
        with torch.no_grad():
            for shorter, is_causal in _trials(query):
                given = kernel(shorter, key, value, is_causal, scaling)
                wanted = _matrix_products(shorter, key, value, is_causal, scaling)
                for found, right in zip(given, wanted, strict=True):
                    if found.shape != right.shape or not torch.allclose(found, right.to(found), tolerance, tolerance):
                        return False
    except (RuntimeError, ImportError, AttributeError, TypeError, ValueError, NotImplementedError):
        return False  # the operator is not there, or does not take such tensors
    return True


def _trials(query: Tensor) -> Iterator[tuple[Tensor, bool]]:
    yield query, True
    yield query[:, :, :3], False

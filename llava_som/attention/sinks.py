"""Sink tokens by their massive activations, and which dimensions of which decoder these are in.

A sink is a token whose hidden state is nearly all in a few dimensions that pre-training has fixed (arXiv 2402.17762);
instruction tuning keeps them. The value of a token is at most sqrt(D), reached where one dimension holds everything.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from llava_som.attention.decoder import DecoderLayers

_MOST_ADDED = 1024  # tokens: image placeholders, marks, padding to a multiple


@dataclass(frozen=True)
class KnownDims:
    """Sink dimensions of a decoder that somebody has published.

    Attributes:
        model: what people call it.
        model_type: of the decoder's config in transformers, versions with images included.
        width: D, of hidden states.
        depth: of the decoder in layers.
        key_heads: of a layer.
        vocabulary: tokens; decoders of one shape but of other pre-training, and so other dimensions, differ in it.
        dims: the dimensions.
        source: who says so.
        is_confirmed: by the method's authors, or by those of the massive activations paper.
    """

    model: str
    model_type: tuple[str, ...]
    width: int
    depth: int
    key_heads: int
    vocabulary: int
    dims: tuple[int, ...]
    source: str
    is_confirmed: bool = True

    def describes(self, config: PreTrainedConfig) -> bool:
        """Whether a decoder's config is that of this model, with a few tokens more or less in its vocabulary."""
        key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        shape = config.hidden_size, config.num_hidden_layers, key_heads
        return (
            config.model_type in self.model_type
            and shape == (self.width, self.depth, self.key_heads)
            and abs(config.vocab_size - self.vocabulary) <= _MOST_ADDED
        )


_LLAMA, _QWEN2_VL = ("llama",), ("qwen2_vl", "qwen2_vl_text")
_QWEN2_5_VL, _QWEN3_VL = ("qwen2_5_vl", "qwen2_5_vl_text"), ("qwen3_vl", "qwen3_vl_text")
_MASSIVE, _VAR, _OTHERS = "arXiv 2402.17762, code", "arXiv 2503.03321", "users' tables"
KNOWN = (
    KnownDims("Llama-2-7B, Vicuna-7B, LLaVA-1.5-7B", _LLAMA, 4096, 32, 32, 32000, (1415, 2533), _VAR),
    KnownDims("Llama-2-13B, Vicuna-13B, LLaVA-1.5-13B", _LLAMA, 5120, 40, 40, 32000, (2100, 4743), _VAR),
    KnownDims("Llama-3-8B", _LLAMA, 4096, 32, 8, 128256, (788, 1384, 4062), _MASSIVE),
    KnownDims("Mistral-7B", ("mistral",), 4096, 32, 8, 32000, (2070,), _MASSIVE),
    KnownDims("Mixtral-8x7B", ("mixtral",), 4096, 32, 8, 32000, (2070, 3398), _MASSIVE),
    KnownDims("OPT-6.7B", ("opt",), 4096, 32, 32, 50272, (2394,), _MASSIVE),
    KnownDims("Qwen2-VL-7B", _QWEN2_VL, 3584, 28, 4, 152064, (458, 2570), _VAR),
    KnownDims("InternLM2.5-7B, InternVL2-8B", ("internlm2",), 4096, 32, 8, 92544, (3584,), _VAR),
    KnownDims("Qwen2.5-7B", ("qwen2",), 3584, 28, 4, 152064, (458, 2570, 2718), _OTHERS, False),
    KnownDims("Qwen2-VL-2B", _QWEN2_VL, 1536, 28, 2, 151936, (1073, 534, 940), _OTHERS, False),
    KnownDims("Qwen2.5-VL-3B", _QWEN2_5_VL, 2048, 36, 2, 151936, (318, 1874, 1819), _OTHERS, False),
    KnownDims("Qwen2.5-VL-7B", _QWEN2_5_VL, 3584, 28, 4, 152064, (458, 2570), _OTHERS, False),
    KnownDims("Qwen2.5-VL-32B", _QWEN2_5_VL, 5120, 64, 8, 152064, (4675, 3094), _OTHERS, False),
    KnownDims("Qwen3-VL-2B", _QWEN3_VL, 2048, 28, 8, 151936, (1793, 1999, 1401), _OTHERS, False),
    KnownDims("Qwen3-VL-4B", _QWEN3_VL, 2560, 36, 8, 151936, (0,), _OTHERS, False),
    KnownDims("Qwen3-VL-8B", _QWEN3_VL, 4096, 36, 8, 151936, (1838,), _OTHERS, False),
)
_FIND_THEM = "llava_som.attention.discovery.discover(model)"


def sink_value(hidden: Tensor, dims: Sequence[int]) -> Tensor:
    """The largest of some dimensions of each token over the root mean square of all (VAR, Section 3.1).

    Args:
        hidden: input of a decoder layer, before its norm, `[B, L, D]`.
        dims: sink dimensions.

    Returns:
        float32 `[B, L]`, at most sqrt(D). Squares are taken in float32: activations near 2,000 overflow float16.
    """
    norm = torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.promote_types(hidden.dtype, torch.float32))
    peak = hidden.index_select(-1, _places(tuple(dims), hidden.device)).to(norm.dtype).abs().amax(dim=-1)
    return (peak * hidden.shape[-1] ** 0.5 / norm.clamp(min=torch.finfo(norm.dtype).tiny)).float()


def reachable(tau: float, tau_rel: float | None, width: int) -> float:
    """Threshold of `sink_value`, `tau_rel * sqrt(D)` where that is given; a ValueError where no token can reach it."""
    most = width**0.5
    if tau_rel is not None:
        if not 0 < tau_rel < 1:
            raise ValueError(f"tau_rel={tau_rel}: must be above 0 and below 1, a share of sqrt(D).")
        return tau_rel * most
    if not 0 < tau < most:
        raise ValueError(
            f"tau={tau}: must be above 0 and below {most:.1f}, because no token can have more than sqrt({width}). Give "
            "tau_rel instead, a share of that: 0.31 is the paper's 20 of 64."
        )
    return tau


def resolved_dims(given: list[int] | Literal["auto"] | None, decoder: DecoderLayers, tau: float) -> list[int]:
    """Sink dimensions as given, from the table (None), or found.

    Raises:
        ValueError: dimensions that the decoder does not have, a decoder that the table does not have, or one in which
            none are found.
    """
    if given == "auto":
        from llava_som.attention.discovery import discovered_dims

        return discovered_dims(decoder.model, tau)
    if given is None:
        return known_dims(decoder.config)
    checked_dims(given, decoder.width)
    return given


@cache
def _places(dims: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or gradients would refuse it later
        return torch.tensor(dims, device=device)


def known_dims(config: PreTrainedConfig) -> list[int]:
    """Sink dimensions of a decoder from the table; warns of those that are not confirmed.

    Raises:
        ValueError: a decoder that the table does not have.
    """
    for known in KNOWN:
        if known.describes(config):
            if not known.is_confirmed:
                warnings.warn(
                    f"Sink dimensions {list(known.dims)} of {known.model} come from {known.source} and are not "
                    f"confirmed. {_FIND_THEM} finds the model's own.",
                    UserWarning,
                    stacklevel=2,
                )
            return list(known.dims)
    raise ValueError(
        f"No sink dimensions are known for {config.model_type!r} with {config.num_hidden_layers} layers of width "
        f"{config.hidden_size} and a vocabulary of {config.vocab_size}. Give sink_dims=auto to find them, or "
        f"sink_dims=[...] as {_FIND_THEM} reports. Known: {'; '.join(known.model for known in KNOWN)}."
    )


def checked_dims(dims: Sequence[int], width: int) -> None:
    """A ValueError for sink dimensions that hidden states of `width` dimensions do not have, or for none."""
    if not dims:
        raise ValueError("sink_dims=[]: give at least one sink dimension of the decoder, or auto to find them.")
    if wrong := [number for number in dims if not 0 <= number < width]:
        raise ValueError(f"sink_dims={wrong}: hidden states have {width} dimensions; allowed are 0 to {width - 1}.")

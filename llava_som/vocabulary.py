"""The `<image>` placeholder in a tokenizer, and decoder embeddings that have a row for it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

IMAGE_TOKEN = "<image>"


def add_image_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Make `<image>` one special token and return its id; a tokenizer without a padding token gets one."""
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer.get_vocab()[IMAGE_TOKEN]


@torch.no_grad()
def fit_embeddings(decoder: Any, num_tokens: int, multiple: int = 64) -> None:
    """Grow a decoder's embeddings to `num_tokens` rows, rounded up to `multiple`; they never shrink.

    New rows are the mean of the old ones, so that a new token is never the likeliest next one.
    """
    old_rows = decoder.get_input_embeddings().weight.shape[0]
    if num_tokens <= old_rows:
        return
    decoder.resize_token_embeddings(num_tokens, pad_to_multiple_of=multiple, mean_resizing=False)
    for embeddings in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        if embeddings is not None:
            embeddings.weight[old_rows:] = embeddings.weight[:old_rows].float().mean(0).to(embeddings.weight.dtype)

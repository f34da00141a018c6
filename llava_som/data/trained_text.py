"""What a model is trained on, made visible: one sample with the trained tokens coloured and image spans folded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from llava_som.data.dataset import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED, GIVEN, IMAGE = "bold green", "dim", "magenta"


def render_trained_text(
    input_ids: Sequence[int], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase, image_token_id: int
) -> Text:
    """The sample as the model reads it: trained text green, the rest dim, an image span as `[64 image tokens]`."""

    def kind(position: int) -> str:
        if input_ids[position] == image_token_id:
            return IMAGE
        return GIVEN if labels[position] == IGNORE_INDEX else TRAINED

    text = Text()
    for style, positions in groupby(range(len(input_ids)), key=kind):
        tokens = [input_ids[position] for position in positions]
        text.append(f"[{len(tokens)} image tokens]" if style == IMAGE else str(tokenizer.decode(tokens)), style=style)
    return text

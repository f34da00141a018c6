"""What an intervention knows of the tokens in a cache: image, text and padding, and what it found about them.

It belongs to the cache and goes with it: kept beside it, shortened when the cache is, reordered with its beams. So a
new sample, a second turn, a prompt read in chunks, a cropped or copied cache and two streams need no bookkeeping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.cache_utils import Cache

NEVER = 1 << 40  # a position that no token has


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one kind: `start` to `stop - 1`. System is the text before the first image."""

    kind: Literal["padding", "system", "image", "text"]
    start: int
    stop: int


@dataclass(frozen=True)
class Tokens:
    """Which tokens are what, for a batch of B prompts of L tokens so far.

    Attributes:
        is_image: image features, bool `[B, L]`.
        is_token: no padding, bool `[B, L]`.
    """

    is_image: Tensor
    is_token: Tensor

    @cached_property
    def image_end(self) -> Tensor:
        """Position after the last image feature, `[B]`; `NEVER` in a prompt without images."""
        places = torch.arange(1, self.is_image.shape[1] + 1, device=self.is_image.device)
        last = torch.where(self.is_image, places, 0).amax(dim=1)
        return torch.where(last > 0, last, NEVER)

    @cached_property
    def first(self) -> Tensor:
        """Position of the first token, `[B]`."""
        return self.is_token.int().argmax(dim=1)

    @cached_property
    def last(self) -> Tensor:
        """Position of the last token, `[B]`."""
        return self.is_token.shape[1] - 1 - self.is_token.flip(1).int().argmax(dim=1)

    @cached_property
    def spans(self) -> list[list[Span]]:
        """The spans of each prompt, in order; read from the device once."""
        return [_spans(*row) for row in zip(self.is_image.tolist(), self.is_token.tolist(), strict=True)]


def _spans(is_image: list[bool], is_token: list[bool]) -> list[Span]:
    found: list[Span] = []
    kinds = [
        "image" if image else "text" if token else "padding" for image, token in zip(is_image, is_token, strict=True)
    ]
    first_image = kinds.index("image") if "image" in kinds else 0
    start = 0
    for kind, run in groupby(kinds):
        stop = start + sum(1 for _ in run)
        is_system = kind == "text" and start < first_image
        found.append(Span("system" if is_system else kind, start, stop))  # type: ignore[arg-type]
        start = stop
    return found


@dataclass
class Prompt:
    """The tokens of a cache, and what was found about them.

    Attributes:
        tokens: so far.
        found: by layer and name, `[B, ..., L]`.
        has_image: whether any of the prompts has an image.
        answer: position of the first generated token; None outside of `generate`, where nobody tells.
    """

    tokens: Tokens
    found: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    has_image: bool = False
    answer: int | None = None

    def read(self, past: int, is_image: Tensor, is_token: Tensor) -> None:
        """Go on after the first `past` tokens with new ones.

        Args:
            past: tokens that the cache holds.
            is_image: of the new tokens, `[B, Q]`.
            is_token: of all tokens, `[B, past + Q]`.
        """
        self._repeat(len(is_image))
        images = torch.cat([self.tokens.is_image[:, :past], is_image], dim=1)
        self.tokens = Tokens(images, is_token)

    def remember(self, layer: int, name: str, past: int, new: Tensor) -> Tensor:
        """Add what was found about new tokens, `[B, ..., Q]`, to what was found before; all of it, `[B, ..., L]`."""
        before = self.found.get((layer, name), new[..., :0])[..., :past]
        unseen = new.new_zeros(*new.shape[:-1], past - before.shape[-1])  # nobody looked: they had no image
        whole = torch.cat([before, unseen, new], dim=-1)
        self.found[layer, name] = whole
        return whole

    def select(self, rows: Tensor) -> None:
        """Keep, reorder or repeat prompts, `[B']`."""
        taken = rows.to(self.tokens.is_image.device)
        self.tokens = Tokens(self.tokens.is_image[taken], self.tokens.is_token[taken])
        self.found = {key: value[rows.to(value.device)] for key, value in self.found.items()}

    def _repeat(self, batch: int) -> None:
        """Follow a cache that was repeated for beams or candidates."""
        own = len(self.tokens.is_image)
        if batch % own:
            raise ValueError(
                f"The cache was filled with {own} prompts under this intervention and is continued with {batch}. Fill "
                "a cache for each batch."
            )
        if batch != own:
            self.select(torch.arange(own).repeat_interleave(batch // own))


def prompt_of(cached: Cache | None) -> Prompt | None:
    """The prompt that goes with a cache."""
    return getattr(cached, "llava_som_prompt", None)


def keep_with(cached: Cache, prompt: Prompt) -> None:
    """Let a prompt go with a cache from now on, also when the cache's rows are reordered."""
    if prompt_of(cached) is None:
        kind: Any = type(cached)
        cached.__class__ = _following(kind)
    cached.llava_som_prompt = prompt  # type: ignore[attr-defined]


class _Following:
    """A cache whose prompt does what its rows do; a class and no wrapped methods, so that copies work as well."""

    llava_som_prompt: Prompt

    def reorder_cache(self, beam_idx: Tensor) -> Any:
        self.llava_som_prompt.select(beam_idx)
        return super().reorder_cache(beam_idx)  # type: ignore[misc]

    def batch_select_indices(self, indices: Tensor) -> Any:
        self.llava_som_prompt.select(indices)
        return super().batch_select_indices(indices)  # type: ignore[misc]


@cache
def _following(kind: Any) -> Any:
    return type(kind.__name__, (_Following, kind), {"__module__": kind.__module__})

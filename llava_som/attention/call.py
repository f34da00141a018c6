"""One attention call of one layer, as an intervention sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llava_som.attention.partials import attend_part, softmax_dtype
from llava_som.attention.prompt import Prompt, Tokens

_BLOCK = 2**22  # weights that are in memory at once where columns are summed


@dataclass
class LayerCall:
    """Queries, keys and values of a layer, and where they stand.

    Attributes:
        layer: number of the layer.
        hidden: the layer's input, `[B, Q, D]`, before its norm.
        prompt: what is known of the tokens.
        past: tokens that the cache held before.
        offset: position of the first key; above 0 where a sliding cache has dropped older ones.
        query: `[B, H, Q, d]`.
        key: `[B, h, K, d]`, not repeated for grouped queries; static caches cut to what they hold.
        value: `[B, h, K, dv]`.
        mask: as the decoder made it: bool or additive `[B or 1, 1, Q, K]`, `[B, K]`, a BlockMask or None.
        options: further arguments of the attention function: scaling, softcap, sliding_window, s_aux ...
        is_regular: whether every token sees all tokens before it, and nothing else.
    """

    layer: int
    hidden: Tensor
    prompt: Prompt
    past: int
    offset: int
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    options: dict[str, Any] = field(default_factory=dict)
    is_regular: bool = True

    @property
    def tokens(self) -> Tokens:
        """Which tokens are what."""
        return self.prompt.tokens

    @property
    def scaling(self) -> float:
        """What logits are multiplied by."""
        return self.options.get("scaling") or self.query.shape[-1] ** -0.5

    @property
    def positions(self) -> Tensor:
        """Positions of the queries, `[Q]`."""
        return torch.arange(self.past, self.past + self.query.shape[2], device=self.query.device)

    @property
    def key_positions(self) -> Tensor:
        """Positions of the keys, `[K]`."""
        return torch.arange(self.offset, self.offset + self.key.shape[2], device=self.key.device)

    def remember(self, name: str, new: Tensor) -> Tensor:
        """Add what was found about new tokens, `[B, ..., Q]`, to what this layer knows; all of it, `[B, ..., L]`."""
        return self.prompt.remember(self.layer, name, self.past, new)

    def put(self, name: str, whole: Tensor) -> Tensor:
        """Replace what this layer knows of all tokens so far, `[B, ..., L]`."""
        self.prompt.found[self.layer, name] = whole
        return whole

    def add_up(self, name: str, whole: Tensor) -> Tensor:
        """Add numbers about all tokens so far, `[B, ..., L]`, to those of earlier calls."""
        before = self.prompt.found.get((self.layer, name))
        if before is not None and self.past:
            whole, held = whole.clone(), min(before.shape[-1], self.past)  # generated tokens were not added up
            whole[..., :held] += before[..., :held]
        return self.put(name, whole)

    def of_keys(self, values_L: Tensor) -> Tensor:
        """`[..., L]` of all tokens to `[..., K]` of the keys."""
        return values_L[..., self.offset : self.offset + self.key.shape[2]].to(self.key.device)

    def allowed(self, rows: slice, keys: int) -> Tensor:
        """Which of the first `keys` keys some queries see, bool, broadcastable to `[B, 1, R, keys]`."""
        mask, window = self.mask, self.options.get("sliding_window")
        if isinstance(mask, Tensor) and mask.ndim == 4:
            return as_bool(mask[:, :, rows, :keys])
        at, to = self.positions[rows].unsqueeze(1), self.key_positions[:keys]
        if mask is not None and not isinstance(mask, Tensor):  # a BlockMask of FlexAttention
            batch = torch.arange(len(self.query), device=at.device).view(-1, 1, 1, 1)
            return mask.mask_mod(batch, torch.zeros_like(batch), at, to)
        seen = to <= at
        if window is not None:
            seen = seen & (to > at - window)
        return seen & self.of_keys(self.tokens.is_token)[:, None, None, :keys]

    def scores(self, rows: slice, keys: int, heads: list[int] | None = None) -> Tensor:
        """Logits of some queries and the first `keys` keys, `[B, H, R, keys]`, -inf where a query does not see a key.

        Grouped queries are multiplied with the keys they share; no key is copied.
        """
        query, key = self.query[:, :, rows], self.key[:, :, :keys]
        groups = query.shape[1] // key.shape[1]
        if heads is not None:
            query, key, groups = query[:, heads], key[:, [head // groups for head in heads]], 1
        batch, count, length, width = query.shape
        folded = query.reshape(batch, count // groups, groups * length, width)
        scores = (folded @ key.transpose(-1, -2)).view(batch, count, length, keys)
        scores = scores.to(softmax_dtype(query.dtype)).mul_(self.scaling)
        if (cap := self.options.get("softcap")) is not None:
            scores = cap * (scores / cap).tanh()
        return scores if self._one_sees_all() else scores.masked_fill_(~self.allowed(rows, keys), -torch.inf)

    def _one_sees_all(self) -> bool:
        """Whether this is a decoding step without padding, in which nothing needs a mask."""
        window = self.options.get("sliding_window")
        return self.mask is None and self.query.shape[2] == 1 and (window is None or self.key.shape[2] <= window)

    def weights(self, scores: Tensor, heads: list[int] | None = None) -> Tensor:
        """Softmax of `scores`, with the logit of each head that no token gets where a decoder has one (gpt-oss)."""
        if (spare := self.options.get("s_aux")) is None:
            weights = scores.softmax(dim=-1)
            return weights if self.mask is None else weights.nan_to_num_(0.0)  # a row of padding may see nothing
        spare = spare if heads is None else spare[heads]
        spare = spare.to(scores).view(1, -1, 1, 1).expand(len(scores), -1, scores.shape[2], 1)
        return torch.cat([scores, spare], dim=-1).softmax(dim=-1)[..., :-1]

    def times_values(self, weights: Tensor) -> Tensor:
        """`[B, H, R, keys]` weights times values, `[B, H, R, dv]`."""
        batch, count, length, keys = weights.shape
        value = self.value[:, :, :keys]
        folded = weights.to(value.dtype).reshape(batch, value.shape[1], -1, keys)
        return (folded @ value).view(batch, count, length, -1)

    def column_sums(self, heads: list[int]) -> tuple[Tensor, Tensor]:
        """The weight of each key, summed over the queries, and how many queries see it, both `[B, heads, L]`.

        Blocks of rows are computed and summed, so that no matrix of T x T is stored; meant for the few heads of a
        method that looks at columns, in a prefill.
        """
        length, keys = self.query.shape[2], self.key.shape[2]
        step = max(1, _BLOCK // max(1, len(self.query) * len(heads) * keys))
        total = self.query.new_zeros(len(self.query), len(heads), keys, dtype=softmax_dtype(self.query.dtype))
        seen = torch.zeros_like(total)
        is_query = self.tokens.is_token[:, self.past :].to(self.query.device)
        if self.prompt.answer is not None:  # guesses at the answer may be read with the prompt
            is_query = is_query & (self.positions < self.prompt.answer)
        for start in range(0, length, step):
            rows = slice(start, min(start + step, length))
            real = is_query[:, None, rows, None]
            total += (self.weights(self.scores(rows, keys, heads), heads) * real).sum(dim=2)
            seen += (self.allowed(rows, keys) & real).sum(dim=2)
        if not self.offset:
            return total, seen
        gone = (self.offset, 0)  # of a sliding cache: keys that no query of this call sees
        return nn.functional.pad(total, gone), nn.functional.pad(seen, gone)

    def part(self, row: int, rows: slice, keys: slice, is_causal: bool) -> tuple[Tensor, Tensor]:
        """Fused attention of some queries of one prompt over some of its keys: `[H, R, dv]` and the LSE `[H, R]`."""
        return attend_part(
            self.query[row, :, rows],
            self.key[row, :, keys],
            self.value[row, :, keys],
            is_causal=is_causal,
            scaling=self.scaling,
        )


def as_bool(mask: Tensor) -> Tensor:
    """A mask that is bool or added to logits, as bool: what is seen."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2

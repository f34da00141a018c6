"""How one token attends to the others in one layer of a running decoder, at the speed of whatever computes attention.

SDPA and flash attention return no weights. For one call, the attention of one layer is rerouted: the one row that is
wanted is computed, and the call handed on to the function that the decoder was set to.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llava_som.attention.reroute import Reroute


class AttentionRow:
    """Attention of one token of each row of a batch, mean over heads; filled by the next call of the watched layer.

    Args:
        query: place of the token, `[B]`.
        is_token: bool `[B, L]`; False: padding.
        past: how many of the L tokens a cache holds; the token is not one of them.

    Attributes:
        weights: float32 `[B, L]`, 0 where the token does not see; None until the layer has run.
    """

    def __init__(self, query: Tensor, is_token: Tensor, past: int = 0) -> None:
        self.query = query
        self.past = past
        self.is_token = is_token
        self.weights: Tensor | None = None
        self._reroute = Reroute(self._attend)

    def watch(self, layer: nn.Module) -> None:
        """Fill the row in the layer's next call."""
        self._reroute.install(layer)

    def release(self) -> None:
        """Let the layer be; more than once does no harm."""
        self._reroute.remove()

    def _attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        original = self._reroute.original(module)
        self.release()
        self.fill(query, key, options)
        return original(module, query, key, value, mask, **options)

    @torch.no_grad()
    def fill(self, query_BHLd: Tensor, key_BhLd: Tensor, options: dict[str, Any]) -> None:
        """Compute the row as the layer does: scaling, soft cap, sliding window and sink logits are in `options`."""
        batch = torch.arange(len(query_BHLd), device=query_BHLd.device)
        query_Bhgd = query_BHLd[batch, :, self.query - self.past].unflatten(1, (key_BhLd.shape[1], -1))
        logits = (query_Bhgd @ key_BhLd.transpose(-1, -2)).flatten(1, 2).float()
        logits = logits * (options.get("scaling") or query_BHLd.shape[-1] ** -0.5)
        if (cap := options.get("softcap")) is not None:
            logits = cap * (logits / cap).tanh()
        logits = logits.masked_fill(~self._seen(options.get("sliding_window")).unsqueeze(1), -torch.inf)
        if (sinks := options.get("s_aux")) is not None:  # gpt-oss: a logit of each head that no token gets
            logits = torch.cat([logits, sinks.float().view(1, -1, 1).expand(len(logits), -1, 1)], dim=-1)
        self.weights = logits.softmax(dim=-1)[..., : self.is_token.shape[1]].mean(dim=1)

    def _seen(self, window: int | None) -> Tensor:
        """What the token may attend to, bool `[B, L]`."""
        distance = self.query.unsqueeze(1) - torch.arange(self.is_token.shape[1], device=self.query.device)
        seen = self.is_token & (distance >= 0)
        return seen if window is None else seen & (distance < window)

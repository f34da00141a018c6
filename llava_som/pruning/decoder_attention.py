"""How one token attends to the others in one layer of a running decoder, at the speed of whatever computes attention.

SDPA and flash attention return no weights. For one call, the attention modules of one layer find the name of another
attention function in their config: it computes the one row that is wanted and hands the call on to the function that
the decoder was set to. Masks are made elsewhere, from the decoder's own config, so causality never rests on this.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_NAME = "llava_som_attention_row"


class AttentionRow:
    """Attention of one token of each row of a batch, mean over heads; filled by the next call of the watched layer.

    Args:
        query: place of the token, `[B]`.
        is_token: bool `[B, L]`; False: padding.

    Attributes:
        weights: float32 `[B, L]`, 0 where the token does not see; None until the layer has run.
    """

    def __init__(self, query: Tensor, is_token: Tensor) -> None:
        self.query = query
        self.is_token = is_token
        self.weights: Tensor | None = None
        self._configs: list[tuple[Any, PreTrainedConfig]] = []

    def watch(self, layer: nn.Module) -> None:
        """Fill the row in the layer's next call."""
        for part in layer.modules():
            config = getattr(part, "config", None)
            if isinstance(config, PreTrainedConfig):
                watched: Any = copy.copy(config)
                watched._attn_implementation = _NAME
                watched.attention_row = self
                part.config = watched  # type: ignore[assignment]
                self._configs.append((part, config))

    def release(self) -> None:
        """Give the layer its config back; more than once does no harm."""
        while self._configs:
            part, config = self._configs.pop()
            part.config = config

    @torch.no_grad()
    def fill(self, query_BHLd: Tensor, key_BhLd: Tensor, options: dict[str, Any]) -> None:
        """Compute the row as the layer does: scaling, soft cap, sliding window and sink logits are in `options`."""
        batch = torch.arange(len(query_BHLd), device=query_BHLd.device)
        query_Bhgd = query_BHLd[batch, :, self.query].unflatten(1, (key_BhLd.shape[1], -1))
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


def _attend_and_fill(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
    row: AttentionRow = module.config.attention_row
    row.release()
    row.fill(query, key, options)
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    attend: Any = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, eager)  # type: ignore[arg-type]
    return attend(module, query, key, value, mask, **options)


AttentionInterface.register(_NAME, _attend_and_fill)

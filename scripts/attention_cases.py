"""What the attention benchmarks run on: an attention call and a Llama with an image in the prompt and planted sinks.

Weights are random, so nothing here tells whether an intervention helps; what matters to its speed is that gates open
and that as many tokens as in a real decoder (about 13) are sinks. Results say how many rows were changed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llava_som.attention.base import Intervention
from llava_som.attention.call import LayerCall
from llava_som.attention.explicit_rows import Step
from llava_som.attention.prompt import Prompt, Tokens
from llava_som.attention.routes import attend
from llava_som.attention.stats import Tally

IMAGE_TOKENS, IMAGE_START = 576, 35
DIMS = [7, 415]  # sink dimensions
SINKS = [0, 17, *range(60, 600, 50)]  # 2 in the text, 11 in the image
PEAK = 400.0  # of a sink in the first of them; the root mean square of a hidden state is about 2 at most
TAU_REL = 0.31  # the paper's 20 at width 4096
IMAGE_ID = 1


def is_image(length: int, start: int = IMAGE_START) -> Tensor:
    """Bool `[1, length]`."""
    at = torch.arange(length)
    return ((at >= start) & (at < start + IMAGE_TOKENS)).unsqueeze(0)


@dataclass(frozen=True)
class Attention:
    """One attention call, of a prompt or of the token after it.

    Attributes:
        query: `[1, H, Q, d]`; sinks get about an eighth of its attention to the image.
        key: `[1, h, K, d]`.
        value: as the keys.
        hidden: `[1, Q, H d]`.
        prompt: what all layers know about the tokens.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    hidden: Tensor
    prompt: Prompt

    @classmethod
    def of_prompt(
        cls, length: int, key_heads: int, dtype: torch.dtype, device: str = "cpu", heads: int = 32, width: int = 128
    ) -> Attention:
        """A prompt that is read."""
        generator = torch.Generator().manual_seed(0)
        query = torch.randn(1, heads, length, width, generator=generator)
        key, value = (torch.randn(1, key_heads, length, width, generator=generator) for _ in range(2))
        hidden = torch.randn(1, length, heads * width, generator=generator)
        query, key[..., 0] = 0.5 * query, 0.0
        query[..., 0] += width**0.5
        key[:, :, SINKS, 0] += 2.0  # adds 2 to the logit
        hidden[:, SINKS, DIMS[0]] = PEAK
        whole = Tokens(is_image(length).to(device), torch.ones(1, length, dtype=torch.bool, device=device))
        tensors = (part.to(device, dtype) for part in (query, key, value, hidden))
        return cls(*tensors, Prompt(whole, has_image=True))

    def next_token(self, methods: list[Intervention]) -> Attention:
        """The last token after the others were read under some interventions."""
        for method in methods:
            Step.of(method, self.call(), Tally())
        return replace(self, query=self.query[:, :, -1:], hidden=self.hidden[:, -1:])

    def call(self) -> LayerCall:
        """As an intervention sees it."""
        past = self.key.shape[2] - self.query.shape[2]
        parts = {"query": self.query, "key": self.key, "value": self.value, "hidden": self.hidden}
        options = {"scaling": self.scaling}
        return LayerCall(layer=3, prompt=self.prompt, past=past, offset=0, mask=None, options=options, **parts)

    @property
    def scaling(self) -> float:
        """What logits are multiplied by."""
        return self.query.shape[-1] ** -0.5

    def causal_mask(self) -> Tensor | None:
        """Additive `[1, 1, Q, K]`, as eager attention takes it."""
        queries, keys = self.query.shape[2], self.key.shape[2]
        if queries == 1:
            return None
        smallest = torch.finfo(self.query.dtype).min
        return torch.full((1, 1, queries, keys), smallest, dtype=self.query.dtype, device=self.query.device).triu(1)

    def sdpa(self, rows: int | None = None) -> Tensor:
        """Without intervention, `[1, Q, H, d]`, of the first rows or all."""
        module: Any = SimpleNamespace(num_key_value_groups=self.query.shape[1] // self.key.shape[1], is_causal=True)
        query, key, value = self.query, self.key, self.value
        if rows is not None and query.shape[2] > 1:
            query, key, value = query[:, :, :rows], key[:, :, :rows], value[:, :, :rows]
        return sdpa_attention_forward(module, query, key, value, None, scaling=self.scaling)[0]

    def edited(self, method: Intervention, tally: Tally | None = None) -> Tensor:
        """Under an intervention, its search for sinks included, `[1, Q, H, d]`."""
        call = self.call()
        step = Step.of(method, call, Tally() if tally is None else tally)
        output = attend(call, [step], lambda rows: self.sdpa(rows).transpose(1, 2), method.route)
        return output.transpose(1, 2).contiguous()


@dataclass(frozen=True)
class Shape:
    """Of a Llama: 32 heads of `width / 32`."""

    width: int
    intermediate: int
    layers: int
    key_heads: int


def llama(shape: Shape, dtype: torch.dtype, device: str = "cpu") -> Any:
    """A random Llama. Its prompts have random image features and sinks, put in where its words are looked up."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=32,
        num_key_value_heads=shape.key_heads,
        vocab_size=1024,
        max_position_embeddings=8192,
    )
    config.image_token_id = IMAGE_ID  # type: ignore[attr-defined]
    with torch.device(device):
        model: Any = LlamaForCausalLM._from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(1.1 / (config.initializer_range * shape.width**0.5))  # logits spread by 1.2
    model.features = torch.randn(IMAGE_TOKENS, shape.width, device=device, dtype=dtype)
    return model


def sibling(model: Any, implementation: str = "sdpa") -> Any:
    """Another model with the same weights, which it shares, so that both can be timed in turn."""
    shared = {id(part): part for part in [*model.parameters(), *model.buffers(), model.features]}
    other = copy.deepcopy(model, shared)
    other.set_attn_implementation(implementation)
    other.get_input_embeddings().register_forward_hook(lambda *call: _planted(call[-1], other.features))
    return other


def _planted(embedded: Tensor, features: Tensor) -> Tensor:
    if embedded.shape[1] > 1:
        embedded[:, IMAGE_START : IMAGE_START + IMAGE_TOKENS] = features
        embedded[:, SINKS, DIMS[0]] = PEAK
    return embedded


def prompt_ids(length: int, device: str = "cpu", has_image: bool = True) -> Tensor:
    """`[1, length]`; without an image, as long."""
    ids = torch.randint(2, 1000, (1, length), generator=torch.Generator().manual_seed(0))
    return (ids.masked_fill(is_image(length), IMAGE_ID) if has_image else ids).to(device)


class Reader:
    """A model that reads a prompt, and then one token after the other."""

    def __init__(self, model: Any, ids: Tensor) -> None:
        self.model, self.ids = model, ids
        self.cache: Any = None

    def read(self) -> Tensor:
        """The prompt; logits of the last token."""
        output = self.model(input_ids=self.ids, use_cache=True, logits_to_keep=1)
        self.cache = output.past_key_values
        return output.logits

    def step(self) -> Tensor:
        """One more token."""
        return self.model(input_ids=self.ids[:, :1], past_key_values=self.cache, use_cache=True).logits

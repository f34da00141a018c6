"""No way of editing attention stores a T x T matrix: the largest tensor of a prefill grows in proportion to T."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import LlamaConfig, LlamaForCausalLM

from llava_som.attention.act import ACT
from llava_som.attention.var import VAR

HEADS, IMAGE = 8, 1
VAR_OPTIONS = {"sink_dims": [3], "tau_rel": 0.2, "image_mass": 0.05, "rho": 0.2, "layers": [0]}
METHODS = {
    "VAR, fused": VAR(**VAR_OPTIONS, route="fused"),
    "VAR, rows": VAR(**VAR_OPTIONS, route="rows"),
    "ACT": ACT(heads=[0, 5], alpha=1.5, layers=[0]),
    "both": VAR(**VAR_OPTIONS) + ACT(heads=[0, 5], alpha=1.5, layers=[0]),
}


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for part in tree_iter(output):
            if isinstance(part, torch.Tensor):
                self.elements = max(self.elements, part.untyped_storage().nbytes() // part.element_size())
        return output


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=HEADS, num_key_value_heads=4, max_position_embeddings=4096)  # fmt: skip
    config.image_token_id = IMAGE
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def largest(model, length):
    ids = torch.randint(2, 64, (1, length), generator=torch.Generator().manual_seed(0))
    ids[:, 35 : 35 + length // 4] = IMAGE
    with Largest() as seen:
        model(input_ids=ids, logits_to_keep=1)
    return seen.elements


@pytest.mark.parametrize("name", METHODS)
def test_the_largest_tensor_of_a_prefill_grows_with_the_tokens(name, model):
    with METHODS[name].on(model) as run:
        found = {length: largest(model, length) for length in (1024, 2048)}
    assert all(run.changed.values())
    assert found[2048] <= 2.1 * found[1024]
    assert found[2048] < HEADS * 2048 * 2048 / 4  # a block of rows, but never the weights of all


def test_whole_weights_would_be_seen(model):
    model.set_attn_implementation("eager")
    assert largest(model, 1024) == HEADS * 1024 * 1024
    model.set_attn_implementation("sdpa")
    assert largest(model, 1024) < 1024 * 1024 / 4

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))
from published_loop import act_in_place, eager, published_var, var_in_place

from llava_som.attention.act import ACT
from llava_som.attention.var import VAR
from tests.decoders import IMAGE, one_of, prompts, tiny

DIMS, WIDTH = [3], 500  # a token with all in one dimension has phi = 22
IMAGE_SPAN, SINKS = slice(5, 25), [0, 9, 12]


def case(queries, length=40):
    torch.manual_seed(0)
    scores = torch.randn(1, 6, length, length, dtype=torch.float64)
    scores[..., SINKS] += 2.0
    at = torch.arange(length)
    weights = scores.masked_fill(at > at[:, None], -torch.inf).softmax(dim=-1)
    hidden = torch.randn(1, length, WIDTH)
    hidden[:, SINKS, DIMS[0]] = 1e4
    is_image = torch.zeros(1, length, dtype=torch.bool)
    is_image[:, IMAGE_SPAN] = True
    return weights[:, :, -queries:], hidden, is_image


@pytest.mark.parametrize("queries", [40, 1], ids=["prompt", "decoding"])
def test_the_loop_of_var_is_the_preset_of_the_released_code(queries):
    weights, hidden, is_image = case(queries)
    method = VAR(preset="repo", sink_dims=DIMS)
    wanted = method.reweight(weights, hidden, is_image)
    is_sink = torch.isin(torch.arange(40), torch.tensor(SINKS))
    found = weights.clone()
    changed = var_in_place(found, is_sink, is_image[0])
    assert changed == int((wanted != weights).any(dim=-1).sum()) > 0
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)


def test_without_a_sink_in_the_image_the_loop_does_nothing():
    weights, _, is_image = case(40)
    before = weights.clone()
    assert var_in_place(weights, torch.arange(40) == 0, is_image[0]) == 0
    assert torch.equal(weights, before)


def test_the_loop_of_act_is_its_oracle():
    weights, hidden, is_image = case(40)
    wanted = ACT(heads=[1, 4], alpha=2.0).reweight(weights, hidden, is_image)
    found = weights.clone()
    assert act_in_place(found, [1, 4], limit=2.0 / 40) == 2
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12) and (found - weights).abs().max() > 0.1


def test_eager_is_scaled_dot_product_attention_with_grouped_queries():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 7, 8) for heads in (4, 2, 2))
    mask = torch.full((7, 7), -torch.inf).triu(1)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    assert torch.allclose(eager(query, key, value, mask, 8**-0.5), wanted.transpose(1, 2), atol=1e-6)


@torch.no_grad()
def test_a_model_with_the_loop_says_what_it_says_with_the_preset():
    model = tiny("llama")
    inputs = one_of(prompts("llama", model), 0)
    is_image, dims, layers, limits = (
        inputs["input_ids"][0] == IMAGE,
        [3, 11, 17],
        [2, 3],
        {"rho": 0.8, "image_mass": 0.05},
    )

    def two_steps():
        first = model(**inputs, use_cache=True)
        second = model(input_ids=torch.tensor([[5]]), past_key_values=first.past_key_values)
        return torch.cat([first.logits, second.logits], dim=1)

    with VAR(preset="repo", sink_dims=dims, tau_rel=0.25, layers=layers, **limits).on(model):
        wanted = two_steps()
    model.set_attn_implementation("eager")
    plain = two_steps()
    with published_var(model, layers, dims, is_image, 0.25 * 32**0.5, **limits) as counts:
        found = two_steps()
    assert len(counts) == 4 and min(sum(counts[:2]), sum(counts[2:])) > 0  # both steps were edited
    assert (found - wanted).abs().max() < 2e-5 < 1e-3 < (found - plain).abs().max()
    assert torch.equal(two_steps(), plain)

"""Both routes are the same mathematics, whatever the prompt looks like: against rows one by one in float64."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_som.attention import partials
from llava_som.attention.act import ACT
from llava_som.attention.base import KeyGroups
from llava_som.attention.call import LayerCall
from llava_som.attention.cut_prompt import CutPrompt
from llava_som.attention.explicit_rows import Step
from llava_som.attention.partials import attend_part
from llava_som.attention.prompt import Prompt, Tokens
from llava_som.attention.routes import attend
from llava_som.attention.stats import Tally


@dataclass(frozen=True, kw_only=True)
class Planted(KeyGroups):
    """Groups that are given, and coefficients that depend on every mass and keep the sum of a row."""

    paper: ClassVar[str] = "none"
    groups: ClassVar[tuple[str, ...]] = ("rest", "image", "sinks")

    planted: torch.Tensor
    begin: int = 0

    def first_row(self, call):
        return torch.full((len(call.query),), self.begin)

    def labels(self, call):
        return self.planted

    def coefficients(self, mass_HRG):
        rest, image, sinks = mass_HRG.unbind(dim=-1)
        moved = 0.7 * (image > 0.1) * (rest > 1e-3)
        return torch.stack(
            [1 + moved * sinks / rest.clamp(min=1e-3), torch.ones_like(image), 1 - moved.to(rest)], dim=-1
        )


def a_call(dtype, batch, heads, length, past, images, padding, sharpness):
    """Queries and keys of random prompts: `images` are (start, stop), `padding` tokens on the left of each row."""
    total = past + length
    query, (key, value) = torch.randn(batch, heads, length, 8), (torch.randn(batch, heads // 2, total, 8) for _ in "kv")
    places = torch.arange(total)
    is_token = places >= torch.tensor(padding).unsqueeze(1)
    is_image = torch.zeros(batch, total, dtype=torch.bool)
    for start, stop in images:
        is_image |= (places >= start) & (places < stop) & is_token
    mask = None
    if any(padding) or past:
        mask = ((places <= places[past:, None]) & is_token[:, None]).unsqueeze(1)
    return LayerCall(
        layer=0, hidden=torch.zeros(batch, length, 4), prompt=Prompt(Tokens(is_image, is_token)), past=past, offset=0,
        query=sharpness * query.to(dtype), key=key.to(dtype), value=value.to(dtype), mask=mask, options={},
    )  # fmt: skip


def brute_force(call, steps):
    """Every row by itself, in float64."""
    groups = call.query.shape[1] // call.key.shape[1]
    query, key, value = (
        call.query.double(),
        *(part.double().repeat_interleave(groups, 1) for part in (call.key, call.value)),
    )
    output = torch.zeros_like(query)
    for row, head, place in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        at = call.past + place
        seen = call.tokens.is_token[row, : at + 1]
        if not call.tokens.is_token[row, at]:
            continue
        keys = key[row, head, : at + 1][seen]
        weights = (keys @ query[row, head, place] * 8**-0.5).softmax(dim=0)
        for step in steps:
            if at >= step.first_row[row]:
                labels = step.labels[row, head % step.labels.shape[1], : at + 1][seen].long()
                mass = torch.zeros(len(step.method.groups), dtype=torch.float64).index_add(0, labels, weights)
                weights = weights * step.method.coefficients(mass)[labels]
        output[row, head, place] = weights @ value[row, head, : at + 1][seen]
    return output


def both_routes(call, steps):
    def original(rows):
        return brute_force(call, [])[:, :, :rows].to(call.query.dtype)

    return [attend(call, steps, original, route) for route in ("rows", "fused")]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(2, 40),
    past=st.sampled_from([0, 0, 5]),
    padding=st.sampled_from([(0, 0), (0, 3), (2, 0)]),
    images=st.sampled_from([(), ((3, 9),), ((2, 5), (8, 12))]),
    begin=st.integers(0, 30),
    sinks=st.sampled_from([0.0, 0.1, 0.5]),
    by_head=st.booleans(),
)
def test_routes_are_brute_force(seed, length, past, padding, images, begin, sinks, by_head):
    torch.manual_seed(seed)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-6)):
        call = a_call(dtype, 2, 4, length, past, images, padding, sharpness=1.0)
        labels = call.tokens.is_image.to(torch.uint8).unsqueeze(1).repeat(1, 4 if by_head else 1, 1)
        labels[torch.rand(labels.shape) < sinks] = 2
        methods = [Planted(planted=labels, begin=begin), Planted(planted=labels.flip(-1), begin=2)]
        steps = [Step.of(method, call, Tally()) for method in methods]
        real = call.tokens.is_token[:, None, past:, None]
        wanted = brute_force(call, steps) * real
        for found in both_routes(call, steps):
            assert (found * real - wanted).abs().max() < tolerance * max(1, wanted.abs().max().item())


def test_a_row_with_nearly_everything_on_sinks_loses_no_digits():
    torch.manual_seed(0)
    call = a_call(torch.float32, 1, 2, 30, 0, (), (0,), sharpness=1.0)
    call.query[..., 0], call.key[:, :, 4, 0] = 4.0, 9.0  # one key gets nearly all
    steps = [Step.of(ACT(heads=None, alpha=3.0, layers=[0]), call, Tally())]
    assert steps[0].labels[..., 4].all()
    wanted = brute_force(call, steps)
    for found in both_routes(call, steps):
        assert (found - wanted).abs().max() < 5e-6


def test_prompts_are_cut_where_they_can_be():
    torch.manual_seed(0)
    call = a_call(torch.float32, 2, 4, 40, 0, ((5, 25),), (0, 3), sharpness=1.0)
    labels = call.tokens.is_image.to(torch.uint8).unsqueeze(1)
    labels[..., 7] = 2
    prompt = CutPrompt.of(call, [Step.of(Planted(planted=labels), call, Tally())], 1)
    assert [(part.start, part.stop, part.cell) for part in prompt.ranges] == [(3, 5, 0), (5, 25, 1), (25, 40, 0)]
    assert prompt.gathered.tolist() == [[7]] and prompt.cells.tolist() == [[2]] and prompt.bases.tolist() == [[1]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_causal", [True, False])
def test_fused_parts_are_matrix_products(dtype, is_causal):
    torch.manual_seed(0)
    query, (key, value) = torch.randn(8, 90, 16).to(dtype), (torch.randn(2, 90, 16).to(dtype) for _ in "kv")
    output, lse = attend_part(query, key, value, is_causal=is_causal, scaling=0.3)
    scores = query.double() @ key.double().repeat_interleave(4, 0).transpose(1, 2) * 0.3
    if is_causal:
        scores = scores.masked_fill(~torch.ones(90, 90).tril().bool(), -torch.inf)
    wanted = scores.softmax(dim=-1) @ value.double().repeat_interleave(4, 0)
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6}.get(dtype, 2e-2)
    assert (output - wanted).abs().max() < tolerance and (lse - scores.logsumexp(dim=-1)).abs().max() < tolerance
    assert output.dtype == dtype and lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_a_kernel_that_is_wrong_or_not_there_is_passed_over(monkeypatch):
    def wrong(query, key, value, is_causal, scaling):
        output, lse = partials._torch_cpu(query, key, value, is_causal, scaling)
        return output, lse + 0.1

    def absent(query, key, value, is_causal, scaling):
        raise NotImplementedError

    for kernels, chosen in (
        ((wrong, partials._torch_cpu), partials._torch_cpu),
        ((absent,), partials._matrix_products),
    ):
        monkeypatch.setitem(partials.KERNELS, "cpu", kernels)
        partials._kernel.cache_clear()
        if chosen is partials._matrix_products:
            with pytest.warns(UserWarning, match="No fused attention kernel"):
                assert partials._kernel("cpu", torch.float32, 16, True) is chosen
        else:
            assert partials._kernel("cpu", torch.float32, 16, True) is chosen
    partials._kernel.cache_clear()

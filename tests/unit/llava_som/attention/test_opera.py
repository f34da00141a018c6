"""OPERA-lite against whole matrices of attention: one reading without a cache for every candidate of every step."""

import copy
import math
import warnings

import pytest
import torch

from llava_som.attention.opera import OPERALite
from llava_som.attention.session import session_on
from llava_som.attention.var import VAR
from tests.decoders import one_of, prompts, tiny

FAMILIES = ["llava", "qwen2_vl", "ours"]
STEPS = 6
# In a tiny model columns are faint: a larger scale makes them count.
METHOD = OPERALite(candidates=4, first=3, scale=400.0, weight=2.0)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    model = tiny(request.param)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    return model, eager, prompts(request.param, model, after=(7, 4))


def generated_by(model, inputs, **options):
    told = {"output_scores": True, "return_dict_in_generate": True, "suppress_tokens": [model.config.image_token_id]}
    options = {"do_sample": False} | told | options
    return model.generate(**inputs, max_new_tokens=STEPS, min_new_tokens=STEPS, **options)


@torch.no_grad()
def read(eager, inputs, answer):
    """Logits after an answer, `[V]`, the last layer's attention, `[H, L, L]`, and which tokens are images."""
    sequence = torch.cat([inputs["input_ids"], answer[None]], dim=1)
    is_image = sequence == eager.config.image_token_id
    longer = {**inputs, "input_ids": sequence, "attention_mask": torch.ones_like(sequence)}
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = is_image.int()
    output = eager(**longer, use_cache=False, output_attentions=True)
    return output.logits[0, -1], output.attentions[-1][0], is_image[0]


def penalty(method, eager, inputs, answer):
    """Section 3.2 for an answer that ends in the candidate, from its whole matrix of attention."""
    _, weights, is_image = read(eager, inputs, answer)
    strongest = weights.amax(dim=0).double()
    strongest = strongest / strongest.sum(dim=-1, keepdim=True)
    if len(answer) <= method.first:
        return -strongest[-1, is_image].sum()
    start = inputs["input_ids"].shape[1] + max(0, len(answer) - method.window)
    local = method.scale * strongest[start:, start:]
    return 1e-7 * max(local[j:, j].prod() for j in range(len(local)))


def step(method, eager, inputs, answer):
    """Log probabilities after an answer, `[V]`, that sum to what suppressed tokens leave, and the penalties."""
    logits = read(eager, inputs, answer)[0].log_softmax(dim=-1)
    logits[[eager.config.image_token_id, *filter(None, [eager.generation_config.eos_token_id])]] = -math.inf
    best, candidates = logits.topk(method.candidates)
    lost = [penalty(method, eager, inputs, torch.cat([answer, token[None]])) for token in candidates]
    new = torch.full_like(logits, -math.inf)
    new[candidates] = best - method.weight * torch.stack(lost).to(best)
    return new.log_softmax(dim=-1) + logits.logsumexp(dim=0), torch.stack(lost)


@pytest.mark.parametrize("method", [METHOD, OPERALite(candidates=3, first=0, scale=4000.0, window=2)], ids=str)
def test_a_padded_batch_is_marked_down_as_its_whole_matrices_say(method, family):
    model, eager, inputs = family
    with method.on(model):
        output = generated_by(model, inputs)
    spread = []
    for row in range(2):
        alone, answer = one_of(inputs, row), output.sequences[row, -STEPS:]
        for length, scores in enumerate(output.scores):
            wanted, lost = step(method, eager, alone, answer[:length])
            assert torch.equal(wanted.isfinite(), scores[row].isfinite())
            kept = wanted.isfinite()
            difference = scores[row][kept].log_softmax(dim=-1) - wanted[kept].log_softmax(dim=-1)
            assert difference.abs().max() < 1e-4 * (1 + float(lost.abs().max()))
            spread.append(float(lost.max() - lost.min()))
    assert max(spread[:3]) > 1e-4 and max(spread[3:STEPS]) > 1e-3  # both kinds of penalty tell candidates apart


def test_beams_score_what_whole_matrices_say(family):
    model, eager, inputs = family
    inputs = one_of(inputs, 0)
    with METHOD.on(model):
        output = generated_by(model, inputs, num_beams=3, num_return_sequences=3)
    for sequence, score in zip(output.sequences, output.sequences_scores, strict=True):
        answer, told = sequence[-STEPS:], 0.0
        for length, token in enumerate(answer):
            told += float(step(METHOD, eager, inputs, answer[:length])[0][token])
        assert abs(told / STEPS - float(score)) < 1e-3


def test_rows_that_end_early_leave_the_others_alone(family):
    model, _, inputs = family
    with METHOD.on(model):
        told = {"output_scores": True, "return_dict_in_generate": True, "do_sample": False}
        free = model.generate(**one_of(inputs, 1), max_new_tokens=STEPS, **told)
        ending = int(model.generate(**one_of(inputs, 0), max_new_tokens=2, **told).sequences[0, -1])
        both = model.generate(**inputs, max_new_tokens=STEPS, eos_token_id=ending, pad_token_id=0, **told)
    assert (both.sequences[0, -STEPS + 2 :] == 0).all()
    for alone, together in zip(free.scores[: len(both.scores)], both.scores, strict=True):
        shared = alone[0].isfinite()
        assert (alone[0].log_softmax(-1) - together[1].log_softmax(-1))[shared].abs().max() < 1e-3


def test_without_weight_nothing_changes_and_nothing_is_left(family):
    model, _, inputs = family
    wanted = generated_by(model, inputs, num_beams=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with OPERALite(weight=0).on(model):
            assert torch.equal(generated_by(model, inputs, num_beams=2).sequences, wanted.sequences)
        with OPERALite().on(model):
            generated_by(model, inputs)
            assert not session_on(model)._edits
    assert session_on(model) is None
    assert torch.equal(generated_by(model, inputs, num_beams=2).sequences, wanted.sequences)


def test_it_goes_with_an_edit_of_the_last_layer():
    model = tiny("llava")
    inputs = prompts("llava", model, after=(7, 4))
    other = VAR(sink_dims=[3, 11, 17], tau_rel=0.25, rho=0.2, image_mass=0.05, preset="repo")
    with (other + METHOD).on(model):
        together = generated_by(model, inputs)
        for row in range(2):
            alone = generated_by(model, one_of(inputs, row))
            assert torch.equal(alone.sequences[0, -STEPS:], together.sequences[row, -STEPS:])
    with METHOD.on(model):
        assert not torch.equal(generated_by(model, inputs).scores[0], together.scores[0])


@pytest.mark.parametrize("options", [{"candidates": 1}, {"weight": -1}, {"scale": 0}, {"window": 0}], ids=str)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        OPERALite(**options)


def test_more_beams_than_candidates_are_refused():
    model = tiny("llava")
    with METHOD.on(model), pytest.raises(ValueError, match="num_beams=5"):
        model.generate(**prompts("llava", model), num_beams=5)

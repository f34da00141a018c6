"""Contrasts of two streams, against two readings of everything without caches."""

import gc
import math
import warnings

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from llava_som.attention.pai import PAI, without_images
from llava_som.attention.second_stream import stream_inputs
from llava_som.attention.session import session_on
from llava_som.attention.var import VAR
from llava_som.attention.vcd import VCD
from tests.decoders import one_of, prompts, tiny

FAMILIES = ["llava", "qwen2_vl", "ours"]
STEPS = 5
LOW_VAR = VAR(sink_dims=[3, 11, 17], tau_rel=0.25, rho=0.2, image_mass=0.05)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    model = tiny(request.param)
    return model, prompts(request.param, model, after=(7, 4))


def generated_by(model, inputs, **options):
    lengths = {"max_new_tokens": STEPS, "min_new_tokens": STEPS}
    told = {"output_scores": True, "return_dict_in_generate": True}
    options = {"do_sample": False, "suppress_tokens": [model.config.image_token_id]} | options
    return model.generate(**inputs, **lengths, **told, **options)


@torch.no_grad()
def read_again(model, inputs, answer):
    """Log probabilities of each token of an answer, `[STEPS, V]`, from one pass without a cache."""
    sequence = torch.cat([inputs["input_ids"], answer[None]], dim=1)
    longer = {**inputs, "input_ids": sequence, "attention_mask": torch.ones_like(sequence)}
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = (sequence == model.config.image_token_id).int()
    return model(**longer, use_cache=False).logits[0, -len(answer) - 1 : -1].log_softmax(dim=-1)


def forbidden(model):
    return [model.config.image_token_id, *filter(None, [model.generation_config.eos_token_id])]


def contrast(model, plain, other, strength, cut):
    """The published sum of logits and the cut, `[STEPS, V]`, normalised."""
    plain = plain.clone()
    plain[:, forbidden(model)] = -math.inf
    new = (1 + strength) * plain - strength * other
    new[plain < plain.max(dim=-1, keepdim=True).values + math.log(cut)] = -math.inf
    return new.log_softmax(dim=-1)


def streams(method, model, inputs):
    """Inputs of the other stream, the strength and the cut."""
    if isinstance(method, VCD):
        return {**inputs, **method.noised(model, inputs)}, method.alpha, method.beta
    text = without_images(model, stream_inputs("PAI", model, inputs))
    return {key: value for key, value in text.items() if not key.endswith("_id")}, method.gamma - 1, method.cut


def close(found, wanted, tolerance):
    shut = wanted == -math.inf
    return torch.equal(shut, found == -math.inf) and (found - wanted)[~shut].abs().max() < tolerance


METHODS = [VCD(), VCD(alpha=0.5, beta=0.3), PAI(alpha=0, gamma=3.0, cut=0.02)]


@pytest.mark.parametrize("method", METHODS)
def test_a_padded_batch_says_what_two_passes_over_each_prompt_say(method, family):
    model, inputs = family
    with warnings.catch_warnings(), method.on(model):
        warnings.simplefilter("ignore", UserWarning)  # alpha = 0 edits no attention
        output = generated_by(model, inputs)
    plain = generated_by(model, inputs)
    found = torch.stack(output.scores, dim=1).log_softmax(dim=-1)
    assert (found - torch.stack(plain.scores, dim=1).log_softmax(dim=-1)).nan_to_num(0, 0, 0).abs().max() > 1e-2
    for row in range(2):
        alone, answer = one_of(inputs, row), output.sequences[row, -STEPS:]
        other, strength, cut = streams(method, model, alone)
        said = read_again(model, alone, answer), read_again(model, other, answer)
        assert close(found[row], contrast(model, *said, strength, cut), 2e-4)


@pytest.mark.parametrize("method", METHODS[1:])
def test_beams_score_what_two_passes_over_their_answers_score(method, family):
    model, inputs = family
    with warnings.catch_warnings(), method.on(model):
        warnings.simplefilter("ignore", UserWarning)
        output = generated_by(model, inputs, num_beams=3, num_return_sequences=3)
    for number, (sequence, score) in enumerate(zip(output.sequences, output.sequences_scores, strict=True)):
        alone, answer = one_of(inputs, number // 3), sequence[-STEPS:]
        other, strength, cut = streams(method, model, alone)
        plain = read_again(model, alone, answer)
        said = contrast(model, plain, read_again(model, other, answer), strength, cut)
        left = plain.exp()[:, forbidden(model)].sum(dim=-1)  # beams count what suppressed tokens would have had
        told = (said.gather(1, answer[:, None])[:, 0] + (1 - left).log()).mean()
        assert abs(told - score) < 2e-4


def test_the_noised_stream_is_read_without_the_other_intervention():
    model = tiny("llava")
    inputs = prompts("llava", model)
    method = VCD()
    with LOW_VAR.on(model), method.on(model):
        output = generated_by(model, inputs)
        answer = output.sequences[0, -STEPS:]
        edited = read_again(model, inputs, answer)
    noised = read_again(model, streams(method, model, inputs)[0], answer)
    assert (edited - read_again(model, inputs, answer)).abs().max() > 1e-2
    wanted = contrast(model, edited, noised, method.alpha, method.beta)
    assert close(torch.cat(output.scores).log_softmax(dim=-1), wanted, 2e-4)
    with (LOW_VAR + method).on(model):
        assert torch.equal(generated_by(model, inputs).sequences, output.sequences)


def test_sampling_is_changed_and_its_own_random_numbers_are_left_alone(family):
    model, inputs = family
    options = {"do_sample": True, "num_return_sequences": 2, "top_k": 0}
    with VCD(beta=0).on(model):
        torch.manual_seed(3)
        first = generated_by(model, inputs, **options)
        after = torch.rand(1)
    torch.manual_seed(3)
    generated_by(model, inputs, **options)
    assert torch.equal(torch.rand(1), after)
    with VCD(beta=0, seed=1).on(model):
        torch.manual_seed(3)
        other = generated_by(model, inputs, **options)
    assert not torch.equal(first.scores[0], other.scores[0])


@pytest.mark.parametrize("name", ["internvl", "llava_next", "llava_onevision"])
@pytest.mark.parametrize("method", [VCD(), PAI(gamma=2.0)])
def test_other_families_batch_as_they_read_alone(name, method):
    model = tiny(name)
    inputs = prompts(name, model, after=(7, 4))
    with method.on(model):
        together = torch.stack(generated_by(model, inputs).scores, dim=1)
        for row in range(2):
            assert close(together[row], torch.cat(generated_by(model, one_of(inputs, row)).scores), 3e-4)


@pytest.mark.parametrize("idle", [VCD(alpha=0), PAI(alpha=0, gamma=1)])
def test_without_strength_beams_and_steps_are_the_models_own(idle, family):
    model, inputs = family
    plain, wanted = generated_by(model, inputs), generated_by(model, inputs, num_beams=3)
    with warnings.catch_warnings(), idle.on(model):
        warnings.simplefilter("ignore", UserWarning)
        assert close(torch.stack(generated_by(model, inputs).scores), torch.stack(plain.scores), 1e-5)
        found = generated_by(model, inputs, num_beams=3)
    assert torch.equal(found.sequences, wanted.sequences)
    assert torch.allclose(found.sequences_scores, wanted.sequences_scores, atol=1e-5)


def test_nothing_is_left_behind(family):
    model, inputs = family
    wanted = generated_by(model, inputs)
    deltas = [part.rope_deltas for part in model.modules() if hasattr(part, "rope_deltas")]
    caches = sum(isinstance(found, DynamicCache) for found in gc.get_objects())
    gc.disable()
    try:
        with (VCD() + PAI()).on(model):
            model.generate(**inputs, max_new_tokens=STEPS, num_beams=2)
            assert sum(isinstance(found, DynamicCache) for found in gc.get_objects()) == caches
    finally:
        gc.enable()
    assert session_on(model) is None
    left = [part.rope_deltas for part in model.modules() if hasattr(part, "rope_deltas")]
    assert all(torch.equal(one, other) for one, other in zip(deltas, left, strict=True))
    assert torch.equal(generated_by(model, inputs).sequences, wanted.sequences)


def test_noise_follows_the_schedule_and_is_the_same_for_every_picture():
    model = tiny("qwen2_vl")
    inputs = prompts("qwen2_vl", model, after=(7, 4))
    pixels, noised = inputs["pixel_values"], VCD(noise_step=999).noised(model, inputs)["pixel_values"]
    alone = VCD(noise_step=999).noised(model, one_of(inputs, 1))["pixel_values"]
    assert torch.equal(noised[16:], alone)
    frames = (noised - pixels * (noised * pixels).mean() / pixels.square().mean()).view(-1, 3, 2, 16)
    assert (frames[:, :, 0] - frames[:, :, 1]).std() < frames.std()  # a still picture's two frames share their noise
    assert (VCD(noise_step=0).noised(model, inputs)["pixel_values"] - pixels).abs().max() < 0.1
    beta = torch.linspace(-6, 6, 1000).sigmoid() * (5e-3 - 1e-5) + 1e-5
    kept = (1 - beta).prod()
    assert abs(noised.var() - (kept * pixels.var() + 1 - kept)) < 0.1


def test_what_a_second_stream_cannot_follow_is_refused(family):
    model, inputs = family
    with VCD().on(model):
        for options, words in [
            ({"prompt_lookup_num_tokens": 2}, "assisted decoding"),
            ({"generation_config": GenerationConfig(prompt_lookup_num_tokens=2)}, "assisted decoding"),
            ({"use_cache": False}, "needs a cache"),
            ({"image_features": torch.zeros(1)}, "pixel_values"),
        ]:
            with pytest.raises(ValueError, match=words):
                model.generate(**inputs, **options)
        with pytest.raises(ValueError, match="whole conversation"):
            used = model.generate(**inputs, max_new_tokens=2, return_dict_in_generate=True).past_key_values
            model.generate(**inputs, past_key_values=used)


def test_without_an_image_vcd_says_that_it_does_nothing():
    model = tiny("llava")
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    wanted = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    with VCD().on(model), pytest.warns(UserWarning, match="no image"):
        assert torch.equal(model.generate(inputs["input_ids"], GenerationConfig(max_new_tokens=4)), wanted)


@pytest.mark.parametrize(
    "options",
    [{"alpha": -1}, {"beta": 2}, {"noise_step": 1000}, {"layers": [1]}],
    ids=lambda options: next(iter(options)),
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        VCD(**options)

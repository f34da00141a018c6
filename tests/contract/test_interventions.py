"""Every registered intervention, on every family of decoders: equal to its oracle, and nothing left behind."""

import warnings

import pytest
import torch

from llava_som.attention import INTERVENTIONS
from tests.decoders import NAMES, one_of, prompts, tiny
from tests.oracle import oracle

SMALL = {  # thresholds that tiny random models reach
    "var": {"sink_dims": [3, 11, 17], "tau_rel": 0.25, "rho": 0.2, "image_mass": 0.05},
    "act": {"alpha": 1.5, "layers": [1, 2], "heads": [0, 3]},
    "sink_bias": {"alpha": 1.5, "layers": [1, 2], "heads": [0, 3]},
    "first_token": {"bias": 1.5, "heads": {0: [1], 2: [0, 3]}},
    "head_ablation": {"heads": {0: [1], 2: [0, 3]}},
    "token_selection": {"min_tokens": 2},
}
IDLE = {"var": {"p": 0.0}, "act": {"beta": 1.0}, "sink_bias": {"beta": 1.0}, "first_token": {"bias": 0.0},
        "head_ablation": {"mode": "scaling", "epsilon": 1.0}, "token_selection": {"keep_ratio": 1.0},
        "pai": {"alpha": 0.0, "gamma": 1.0}, "vcd": {"alpha": 0.0}, "opera": {"weight": 0.0}}  # fmt: skip
METHODS = [name for name in INTERVENTIONS.names() if INTERVENTIONS.get(name).edits_attention]


def a_method(name, **options):
    return INTERVENTIONS.get(name)(**SMALL.get(name, {}) | options)


@pytest.fixture(scope="module", params=NAMES)
def family(request):
    model = tiny(request.param)
    return request.param, model, prompts(request.param, model, after=(7, 4))


@torch.no_grad()
def logits_of(model, inputs):
    return model(**inputs).logits[inputs["attention_mask"].bool()]


def generated_by(model, inputs, **options):
    """Four tokens, none of them the placeholder of an image."""
    lengths = {"max_new_tokens": 4, "min_new_tokens": 4}
    return model.generate(
        **inputs, **lengths, do_sample=False, suppress_tokens=[model.config.image_token_id], **options
    )


def steps_of(model, inputs, **options):
    """Sequences, and the logits of the four steps before anything is suppressed, `[B, 4, V]`."""
    output = generated_by(model, inputs, output_logits=True, return_dict_in_generate=True, **options)
    return output.sequences, torch.stack(output.logits, dim=1)


@torch.no_grad()
def read_again(model, inputs, sequences):
    """The same logits from one pass over whole sequences, without a cache."""
    longer = {**inputs, "input_ids": sequences, "attention_mask": torch.ones_like(sequences)}
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = is_image(model, longer).int()
    return model(**longer, use_cache=False).logits[:, -5:-1]


def is_image(model, inputs):
    return inputs["input_ids"] == model.config.image_token_id


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("route", ["rows", "fused"])
def test_a_prompt_is_what_the_oracle_says(name, route, family):
    _, model, inputs = family
    plain = logits_of(model, inputs)
    method = a_method(name, route=route)
    with oracle(method, model, is_image(model, inputs), inputs["attention_mask"].bool()):
        wanted = logits_of(model, inputs)
    with method.on(model) as run:
        found = logits_of(model, inputs)
    assert (wanted - plain).abs().max() > 1e-3
    assert (found - wanted).abs().max() < 2e-5
    assert run.changed[method.name] > 0
    assert torch.equal(logits_of(model, inputs), plain)  # nothing is left


@pytest.mark.parametrize("name", list(IDLE))
def test_without_strength_nothing_changes(name, family):
    _, model, inputs = family
    plain = logits_of(model, inputs)
    with warnings.catch_warnings(), a_method(name, **IDLE[name]).on(model):
        warnings.simplefilter("ignore", UserWarning)
        assert (logits_of(model, inputs) - plain).abs().max() < 5e-6
        generated = generated_by(model, inputs)
    assert torch.equal(generated, generated_by(model, inputs))


def test_decoding_with_a_cache_is_reading_everything_again(family):
    _, model, inputs = family
    inputs = one_of(inputs, 0)
    with a_method("var").on(model):
        sequences, logits = steps_of(model, inputs)
        assert (logits - read_again(model, inputs, sequences)).abs().max() < 2e-5


@pytest.mark.parametrize("name", METHODS)
def test_a_padded_batch_is_its_prompts_one_by_one(name, family):
    _, model, inputs = family
    with a_method(name).on(model):
        _, together = steps_of(model, inputs)
        for row in range(2):
            _, alone = steps_of(model, one_of(inputs, row))
            assert (together[row] - alone[0]).abs().max() < 3e-5


def test_beams_score_what_one_pass_over_their_sequences_scores(family):
    _, model, inputs = family
    inputs = one_of(inputs, 0)
    options = {"num_beams": 3, "num_return_sequences": 3, "output_scores": True, "return_dict_in_generate": True}
    with a_method("var").on(model):
        output = generated_by(model, inputs, **options)
        for sequence, score in zip(output.sequences, output.sequences_scores, strict=True):
            logits = read_again(model, inputs, sequence[None])[0]
            told = logits.log_softmax(dim=-1).gather(1, sequence[-4:, None]).sum() / 4
            assert abs(told - score) < 2e-5

"""Interventions come and go without a trace, follow caches, and refuse what they cannot do."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSeq2SeqLM, DynamicCache

from llava_som.attention.act import ACT
from llava_som.attention.session import session_on
from llava_som.attention.var import VAR
from tests.decoders import one_of, prompts, tiny
from tests.oracle import oracle

LOW = {"sink_dims": [3, 11, 17], "tau_rel": 0.25, "rho": 0.2, "image_mass": 0.05}
SINKS = {"alpha": 1.5, "layers": [1, 2]}


def var(**options):
    return VAR(**LOW | options)


@pytest.fixture
def llava():
    model = tiny("llava")
    return model, prompts("llava", model, after=(7, 4))


@torch.no_grad()
def logits(model, inputs, **options):
    return model(**inputs, **options).logits[inputs["attention_mask"].bool()]


def state_of(model):
    """Everything that an intervention could leave behind."""
    hooks = [(len(part._forward_pre_hooks), len(part._forward_hooks), sorted(vars(part))) for part in model.modules()]
    configs = [id(part.config) for part in model.modules() if hasattr(part, "config")]
    return hooks, configs, model.config.to_json_string(), model.config._attn_implementation


def test_nothing_is_left_behind_also_after_an_error(llava):
    model, inputs = llava
    before, plain = state_of(model), logits(model, inputs)
    with pytest.raises(RuntimeError, match="inside"), var().on(model), ACT(**SINKS).on(model):
        assert not torch.equal(logits(model, inputs), plain)
        raise RuntimeError("inside")
    assert state_of(model) == before and session_on(model) is None
    assert torch.equal(logits(model, inputs), plain)


def test_layers_that_are_not_edited_and_the_vision_tower_are_not_touched(llava):
    model, _ = llava
    layers, tower = model.get_decoder().layers, model.model.vision_tower
    before = [id(part.config) for part in tower.modules() if hasattr(part, "config")]
    with var(layers=[2]).on(model):
        assert [layer.self_attn.config is model.config.text_config for layer in layers] == [True, True, False, True]
        assert [id(part.config) for part in tower.modules() if hasattr(part, "config")] == before
        assert model.get_decoder().config._attn_implementation == "sdpa"


def test_blocks_in_each_other_are_a_sum_and_both_are_the_oracle(llava):
    model, inputs = llava
    both = var(route="fused") + ACT(**SINKS, route="fused")
    is_image, is_token = inputs["input_ids"] == model.config.image_token_id, inputs["attention_mask"].bool()
    with oracle(both, model, is_image, is_token):
        wanted = logits(model, inputs)
    with both.on(model) as run:
        together = logits(model, inputs)
    with var(route="rows").on(model), ACT(**SINKS, route="rows").on(model):
        nested = logits(model, inputs)
    assert (together - wanted).abs().max() < 2e-5 and (nested - wanted).abs().max() < 2e-5
    assert min(run.changed.values()) > 0
    with ACT(**SINKS).on(model), var().on(model):
        assert (logits(model, inputs) - wanted).abs().max() > 1e-3  # the order matters


def test_one_intervention_is_on_a_model_once(llava):
    model, _ = llava
    with var().on(model), pytest.raises(ValueError, match="VAR is on this model already"), var(p=0.1).on(model):
        pass
    with pytest.raises(ValueError, match="VAR twice"):
        var() + var()


def test_float64_routes_agree_to_rounding(llava):
    model, inputs = llava
    model, inputs = model.double(), {**inputs, "pixel_values": inputs["pixel_values"].double()}
    found = []
    for route in ("rows", "fused"):
        with (var(route=route) + ACT(**SINKS)).on(model):
            found.append(logits(model, inputs))
    assert (found[0] - found[1]).abs().max() < 1e-9


def test_a_second_turn_and_a_copied_cache_go_on(llava):
    model, inputs = llava
    inputs = one_of(inputs, 0)
    ids, images = inputs["input_ids"], {"pixel_values": inputs["pixel_values"]}
    more = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), var().on(model):
        whole = model(input_ids=torch.cat([ids, more], dim=1), **images).logits[:, -3:]
        first = DynamicCache(config=model.config.text_config)
        model(input_ids=ids, past_key_values=first, **images)
        other = copy.deepcopy(first)
        for turn in (first, other):
            assert (model(input_ids=more, past_key_values=turn).logits - whole).abs().max() < 2e-5
        first.crop(-3)
        assert (model(input_ids=more, past_key_values=first).logits - whole).abs().max() < 2e-5
        alone = model(input_ids=ids, **images, use_cache=False).logits  # a new sample begins anew
    with var().on(model):
        assert (logits(model, inputs) - alone[0]).abs().max() < 2e-5


@pytest.mark.parametrize("way", [{"cache_implementation": "static"}, {"prefill_chunk_size": 9}, {"assistant": True}])
def test_ways_of_generating_give_the_same_text(llava, way):
    model, inputs = llava
    inputs = one_of(inputs, 0)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "suppress_tokens": [90]}
    if way.pop("assistant", False):
        way = {"prompt_lookup_num_tokens": 2}
    with var().on(model):
        plain = model.generate(**inputs, **options)
        assert torch.equal(model.generate(**inputs, **options, **way), plain)


def test_a_cache_from_outside_and_embeddings_without_ids_are_refused(llava):
    model, inputs = llava
    inputs = one_of(inputs, 0)
    with torch.no_grad():
        cached = model(**inputs).past_key_values
        with var().on(model):
            with pytest.raises(ValueError, match="read outside of this with block"):
                model(input_ids=torch.tensor([[5]]), past_key_values=cached)
            embeds = model.get_input_embeddings()(torch.tensor([[5, 6, 7]]))
            with pytest.raises(ValueError, match="Give input_ids"):
                model(inputs_embeds=embeds)


def test_training_dropout_and_other_models_are_refused(llava):
    model, inputs = llava
    with pytest.raises(ValueError, match=r"model.eval\(\)"), var().on(model.train()):
        pass
    with var().on(model.eval()), pytest.raises(ValueError, match="inference"):
        model.train()(**inputs)
    model.eval()
    with pytest.raises(ValueError, match="compiled by"), var().on(torch.compile(model)):
        pass
    config = AutoConfig.for_model("t5", d_model=16, d_ff=16, num_layers=1, num_heads=2, vocab_size=32)
    with pytest.raises(ValueError, match="encoder-decoder"), var().on(AutoModelForSeq2SeqLM.from_config(config).eval()):
        pass
    with pytest.raises(ValueError, match="allowed are 0 to 3"), var(layers=[4]).on(model):
        pass


def test_pruning_inside_the_decoder_is_refused_and_before_it_is_followed():
    model = tiny("ours")
    inputs = one_of(prompts("ours", model), 0)
    model.set_pruning({"type": "fastv"})
    with pytest.raises(ValueError, match="pruning=none"), var().on(model):
        pass
    model.set_pruning({"type": "random", "keep_ratio": 0.5, "min_tokens": 1, "apply_to": "all"})
    with var().on(model) as run:
        assert model.generate(**inputs, max_new_tokens=2).shape[1] == inputs["input_ids"].shape[1] + 2
        with pytest.raises(ValueError, match="pruning shortened"):
            logits(model, inputs)
    assert run.changed["VAR"] > 0


def test_a_model_with_adapters_is_edited_like_the_model_inside(llava):
    model, inputs = llava
    with var().on(model):
        wanted = logits(model, inputs)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2)).eval()
    with var().on(adapted):
        assert torch.equal(logits(adapted, inputs), wanted)
        generated = adapted.generate(**inputs, max_new_tokens=2)
    assert "generate" not in vars(adapted) and generated.shape[1] == inputs["input_ids"].shape[1] + 2


def test_what_changed_nothing_says_why(llava):
    model, inputs = llava
    with pytest.warns(UserWarning, match="no image in the prompt"), var().on(model):
        logits(model, {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)})
    with pytest.warns(UserWarning, match="llava_som.attention.discovery.discover"), var(tau_rel=0.99).on(model):
        logits(model, inputs)

import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from llava_som.attention.act import ACT
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.discovery import discover
from llava_som.attention.sinks import KNOWN, known_dims, reachable, sink_value
from llava_som.attention.var import VAR
from tests.decoders import IMAGE, TEXT, tiny

DIM = 5


def planted(name="qwen2", is_attended=True, model=None):
    """A decoder in which the token that begins a text is outsized in one dimension, and attended to by all queries."""
    model = tiny(name) if model is None else model
    decoder = model.get_decoder()
    with torch.no_grad():
        begin = decoder.get_input_embeddings().weight[1]
        begin.zero_()[DIM] = 100.0
        for layer in decoder.layers if is_attended else []:
            slowest = slice(3, None, 8)  # a pair of dimensions that positions turn by a thousandth
            layer.self_attn.q_proj.bias[slowest] = 10.0
            layer.self_attn.k_proj.weight[slowest, DIM] = 1.0
    return model


def test_the_value_is_a_share_of_the_root_of_the_width():
    hidden = torch.zeros(1, 3, 16, dtype=torch.float16)
    hidden[0, 0, 4] = -2000.0  # its square overflows
    hidden[0, 1, [4, 9]] = 3.0
    hidden[0, 2, 2] = 1.0
    assert sink_value(hidden, [4, 9])[0].tolist() == pytest.approx([4.0, 8**0.5, 0.0])


@pytest.mark.parametrize(
    ("tau", "tau_rel", "told"), [(8.0, None, r"sqrt\(64\)"), (0.0, None, "above 0"), (1.0, 1.0, "tau_rel=1.0")]
)
def test_a_threshold_that_no_token_can_reach_is_an_error(tau, tau_rel, told):
    with pytest.raises(ValueError, match=told):
        reachable(tau, tau_rel, 64)


QWEN = {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
LLAMA_3 = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA_13 = {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40}
OPT = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 16384}


@pytest.mark.parametrize(
    ("model_type", "options", "dims"),
    [
        ("llama", {}, [1415, 2533]),
        ("llama", {"vocab_size": 32064}, [1415, 2533]),
        ("llama", LLAMA_13, [2100, 4743]),
        ("llama", LLAMA_3 | {"vocab_size": 128256}, [788, 1384, 4062]),
        ("mistral", {}, [2070]),
        ("mixtral", {}, [2070, 3398]),
        ("opt", OPT, [2394]),
        ("qwen2", QWEN | {"vocab_size": 152064}, [458, 2570, 2718]),
    ],
)
def test_known_decoders_are_found_by_their_config(model_type, options, dims):
    assert known_dims(AutoConfig.for_model(model_type, **options)) == dims


@pytest.mark.parametrize(
    ("model_type", "text", "dims"),
    [
        ("llava", {"model_type": "llama"}, [1415, 2533]),
        ("qwen2_vl", QWEN | {"vocab_size": 152064}, [458, 2570]),
        ("qwen3_vl", {"hidden_size": 2560, "num_hidden_layers": 36, "num_key_value_heads": 8}, [0]),
    ],
)
def test_models_with_vision_are_found_by_their_decoder(model_type, text, dims):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(model_type, text_config=text))
    assert VAR().bound(DecoderLayers.of(model)).sink_dims == dims


def test_a_decoder_of_known_shape_and_other_pre_training_is_unknown():
    with pytest.raises(ValueError, match=r"vocabulary of 64000.*sink_dims=auto") as error:
        known_dims(AutoConfig.for_model("llama", **LLAMA_3, vocab_size=64000))
    assert all(known.model in str(error.value) for known in KNOWN)


def test_dimensions_that_nobody_confirmed_are_warned_of():
    with pytest.warns(UserWarning, match="not confirmed"):
        known_dims(AutoConfig.for_model("qwen2", **QWEN, vocab_size=152064))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known_dims(AutoConfig.for_model("llama"))


@pytest.mark.parametrize("name", ["qwen2", "llava_qwen2", "internvl", "qwen2_vl"])
def test_planted_sinks_are_found(name):
    model = planted(name)
    report = discover(model, tau_rel=0.8)
    assert (report.dims, report.layers) == ((DIM,), (2,))
    assert (report.precision, report.recall) == (1.0, 1.0)
    assert report.table().splitlines()[-1].split() == ["2", f"{report.by_layer[0].peak:.1f}", "1", "1", "1"]


def test_every_sink_of_a_given_prompt_counts():
    ids = torch.randint(10, 80, (40,), generator=torch.Generator().manual_seed(0))
    ids[[0, 7, 30]] = 1  # the last one is beyond the first half
    found = discover(planted(), ids, tau_rel=0.8).by_layer[0]
    assert (found.sinks, found.attended, found.both) == (2, 2, 2)


def test_outsized_tokens_that_nobody_attends_to_spoil_the_precision():
    model = planted(is_attended=False)
    assert discover(model, tau_rel=0.8).precision == 0.0
    with pytest.warns(UserWarning, match="precision 0%"):
        assert VAR(sink_dims="auto", tau_rel=0.8).bound(DecoderLayers.of(model)).sink_dims == [DIM]


def test_at_most_the_four_largest_dimensions_are_kept():
    model = planted(is_attended=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[1, 10:15] = torch.tensor([80.0, 60.0, 90.0, 70.0, 110.0])
    assert discover(model, tau_rel=0.2).dims == (DIM, 10, 12, 14)


@pytest.mark.parametrize(("last", "is_found"), [(3, True), (2, False)])
def test_half_of_the_middle_layers_is_enough(last, is_found):
    options = TEXT["qwen2"] | {"num_hidden_layers": 7}  # layers 2 to 5 are looked at
    model = planted(model=AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **options)).eval())

    def shrunk(_layer, _args, hidden):
        return hidden.index_fill(-1, torch.tensor([DIM]), 0.1)

    model.model.layers[last].register_forward_hook(shrunk)
    if is_found:
        assert discover(model, tau_rel=0.8).layers == (2, 3)
    else:
        with pytest.raises(ValueError, match="at least half of layers 2 to 5"):
            discover(model, tau_rel=0.8)


def test_nothing_found_says_what_would_be():
    model = tiny("llama")
    with pytest.raises(ValueError, match=r"above tau=5\.0.*Try tau_rel=0\.(\d+)") as error:
        discover(model, tau=5.0)
    suggested = float(str(error.value).split("tau_rel=")[1].split(",")[0])
    assert len(discover(model, tau_rel=suggested).dims) == 1


@pytest.mark.parametrize(
    ("ids", "told"), [([3, 4, 5], "at least 8"), ([[3] * 9] * 2, "one prompt"), ([3] * 9 + [IMAGE], "text alone")]
)
def test_prompts_that_cannot_be_judged_are_errors(ids, told):
    with pytest.raises(ValueError, match=told):
        discover(planted(), torch.tensor(ids), tau_rel=0.8)


def test_a_model_in_training_is_an_error():
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        discover(planted().train(), tau_rel=0.8)


def test_discovery_sees_the_model_without_interventions_and_leaves_it_as_it_was():
    model = planted()
    configs = [layer.self_attn.config for layer in model.model.layers]
    report = discover(model, tau_rel=0.8)
    with warnings.catch_warnings(), ACT(alpha=1.0, layers=[0, 1, 2], beta=0.0).on(model) as run:
        warnings.simplefilter("ignore", UserWarning)
        assert discover(model, tau_rel=0.8) == report
        assert run.changed["ACT"] == 0
        model(input_ids=torch.arange(3, 40).unsqueeze(0))
        assert run.changed["ACT"] > 0
    assert all(layer.self_attn.config is config for layer, config in zip(model.model.layers, configs, strict=True))
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_auto_looks_again_when_weights_have_changed():
    model = planted()
    method, decoder, calls = VAR(sink_dims="auto", tau_rel=0.8), DecoderLayers.of(model), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert method.bound(decoder).sink_dims == method.bound(decoder).sink_dims == [DIM]
    assert len(calls) == 2  # one to find, one to check
    with torch.no_grad():
        model.get_input_embeddings().weight[1] = model.get_input_embeddings().weight[1].roll(1)
    with pytest.warns(UserWarning, match="precision 0%"):
        assert method.bound(decoder).sink_dims == [DIM + 1]

import math
from dataclasses import dataclass

import pytest
import torch
from transformers import DynamicCache

from llava_som.assembly import assemble
from llava_som.attention import build_intervention
from llava_som.attention.first_token import FirstToken
from llava_som.attention.head_ablation import HeadAblation
from llava_som.attention.prompt import prompt_of
from llava_som.attention.sink_bias import SinkBias
from llava_som.attention.token_selection import TokenSelection
from llava_som.attention.var import VAR
from tests.decoders import IMAGE, one_of, prompts, tiny
from tests.oracle import oracle
from tests.tiny import DECODERS, VISION, drawn_image, tiny_tokenizer, user

CAUSAL = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.1, 0.8, 0.1, 0], [0.1, 0.6, 0.2, 0.1]])
PADDED = torch.nn.functional.pad(CAUSAL, (1, 0, 1, 0))  # on the left
BOTH = torch.stack([PADDED, PADDED]).unsqueeze(0)  # two heads of one prompt
NO_IMAGE = torch.zeros(1, 5, dtype=torch.bool)


@pytest.fixture(scope="module", params=["llama", "llava", "gpt_oss"])
def family(request):
    model = tiny(request.param)
    return model, one_of(prompts(request.param, model, after=(7, 4)), 0)


def close(found, wanted):
    torch.testing.assert_close(found, torch.as_tensor(wanted).expand_as(found), atol=1e-6, rtol=0)


def reweighted(method, attention=BOTH, **extra):
    return method.reweight(attention, torch.zeros(1, attention.shape[3], 4), NO_IMAGE, **extra)


def test_a_sink_is_a_column_of_high_mean_but_never_the_first_token():
    # means over the queries that see them: 0.425, 0.633, 0.15, 0.1; 1.6 / N = 0.4 would take the first token as well
    sinks = SinkBias(alpha=1.6, heads=[1]).sinks_of(BOTH, layer=0)
    assert sinks.squeeze().tolist() == [[False] * 5, [False, False, True, False, False]]
    assert not SinkBias(threshold=0.64).sinks_of(BOTH, layer=0).any()


def test_a_constant_bias_multiplies_and_normalises_again():
    new = reweighted(SinkBias(alpha=1.6, beta=0.5))[0, 0]
    close(new[4], torch.tensor([0, 0.1, 0.3, 0.2, 0.1]) / 0.7)
    close(new[3], torch.tensor([0, 0.1, 0.4, 0.1, 0]) / 0.6)
    close(new[0], torch.zeros(5))  # padding
    close(SinkBias(beta=0.5).coefficients(torch.tensor([[[0.4, 0.6]]])), [1 / 0.7, 0.5 / 0.7])
    close(SinkBias(beta=0.5).coefficients(torch.tensor([[[0.1, 0.6]]])), [1 / 0.7, 0.5 / 0.7])  # 0.3 to no key


def test_first_token_is_the_first_that_is_no_padding():
    new = reweighted(FirstToken(bias=math.log(2), heads={3: [0]}), layer=3)
    close(new[0, 0, 2], [0, 2 / 3, 1 / 3, 0, 0])
    close(new[0, 0, 4], torch.tensor([0, 0.2, 0.6, 0.2, 0.1]) / 1.1)
    assert torch.equal(new[0, 1], BOTH[0, 1])


def test_ablated_heads_attend_evenly_to_what_they_see():
    new = reweighted(HeadAblation(heads=[0]))
    close(new[0, 0, 4], [0, 0.25, 0.25, 0.25, 0.25])
    close(new[0, 0, 2], [0, 0.5, 0.5, 0, 0])
    assert torch.equal(new[0, 1], BOTH[0, 1])
    close(reweighted(HeadAblation(heads=[1], mode="scaling", epsilon=0.5))[0, 1], 0.5 * PADDED)


@pytest.mark.parametrize(("sinks", "kept"), [("as_others", [0, 2, 4, 5]), ("first_to_go", [0, 3, 4, 5])])
def test_the_last_token_ranks_image_tokens(sinks, kept):
    attention = torch.tensor([0.3, 0.05, 0.4, 0.1, 0.05, 0.1]).expand(1, 1, 6, 6).tril()
    is_image = torch.tensor([[False, True, True, True, False, False]])
    hidden = torch.ones(1, 6, 9)
    hidden[0, 2, 7] = 100.0
    options = {"layer": 1, "keep_ratio": 1 / 3, "min_tokens": 1, "sinks": sinks, "sink_dims": [7], "tau": 2.5}
    method, memory = TokenSelection(**options), {}
    assert torch.equal(method.reweight(attention, hidden, is_image, layer=0, memory=memory), attention)
    new = method.reweight(attention, hidden, is_image, layer=1, memory=memory)
    assert new[0, 0, 5].nonzero().flatten().tolist() == kept
    close(new[0, 0, 5, kept], attention[0, 0, 5, kept] / attention[0, 0, 5, kept].sum())


def zeroed(model, heads):
    """The same model, the outputs of some heads cut off in its weights."""
    width = model.config.hidden_size // model.config.num_attention_heads
    for layer, chosen in heads.items():
        weight = model.model.layers[layer].self_attn.o_proj.weight
        for head in chosen:
            weight.data[:, head * width : (head + 1) * width] = 0
    return model


@torch.no_grad()
def test_scaling_by_0_is_cutting_heads_off_whatever_keys_they_share():
    model, heads = tiny("llama"), {0: [1], 2: [0, 3]}
    inputs = prompts("llama", model, after=(7, 4))
    wanted = zeroed(tiny("llama"), heads)(**inputs).logits
    with HeadAblation(heads=heads, mode="scaling", epsilon=0.0).on(model) as run:
        found = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert (found - wanted)[real].abs().max() < 1e-5
    assert (found - model(**inputs).logits)[real].abs().max() > 1e-2
    assert set(run.reports()) == {("HeadAblation", 0), ("HeadAblation", 2)}


@dataclass
class Frozen:
    """An oracle that multiplies chosen keys by a factor and normalises: `[1, H or 1, 1, L]` by layer."""

    factor: float
    chosen: dict
    name = "frozen"

    @property
    def parts(self):
        return [self]

    def bound(self, _decoder):
        return self

    def layers_of(self, _depth):
        return sorted(self.chosen)

    def reweight(self, attention, hidden, is_image, *, observed, layer):
        new = attention * torch.where(self.chosen[layer].bool(), self.factor, 1.0)
        total = new.sum(dim=-1, keepdim=True) + 1 - attention.sum(dim=-1, keepdim=True)
        return torch.where(total > 1e-6, new / total, attention)


def chosen_by(method, found):
    """What a method found in each layer that it edits, by layer."""
    if isinstance(method, SinkBias):
        return {layer: found[layer, "SinkBias sinks"].unsqueeze(2) for layer in method.layers_of(4)}
    return dict.fromkeys(method.layers_of(4)[1:], found[method.layer - 1, "masked"][:, None, None])


@torch.no_grad()
def decoded(model, inputs, tokens):
    """Logits of tokens one by one, and the cache."""
    output = model(**inputs, use_cache=True)
    cache, logits = output.past_key_values, []
    for token in tokens:
        logits.append(model(input_ids=torch.tensor([[token]]), past_key_values=cache).logits[:, -1])
    return torch.stack(logits, dim=1), cache


def longer(inputs, tokens):
    ids = torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1)
    return {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("method", [FirstToken(bias=1.0, heads=[0, 3]), HeadAblation(heads={1: [2], 3: [0, 1]})])
@torch.no_grad()
def test_decoding_is_reading_everything_again(method, family):
    model, inputs = family
    with method.on(model):
        stepwise, _ = decoded(model, inputs, [5, 6, 7])
        whole = model(**longer(inputs, [5, 6, 7]), use_cache=False).logits[:, -3:]
    assert (stepwise - whole).abs().max() < 2e-5


@pytest.mark.parametrize(
    "method",
    [
        SinkBias(alpha=1.3, layers=[1, 2], heads=[0, 3]),
        TokenSelection(min_tokens=2),
        TokenSelection(layer=1, keep_ratio=0.1, min_tokens=1, layers=[1, 3]),
    ],
    ids=["sink_bias", "half", "few"],
)
@torch.no_grad()
def test_choices_about_the_prompt_hold_while_decoding(method, family):
    model, inputs = family
    with method.on(model):
        stepwise, cache = decoded(model, inputs, [5, 6, 7])
    chosen = chosen_by(method, prompt_of(cache).found)
    assert all(found[..., -3:].sum() == 0 < found.sum() for found in chosen.values())
    whole = longer(inputs, [5, 6, 7])
    everything = torch.ones_like(whole["input_ids"]).bool()
    with oracle(Frozen(getattr(method, "beta", 0.0), chosen), model, everything, everything):
        wanted = model(**whole, use_cache=False).logits[:, -3:]
    assert (stepwise - wanted).abs().max() < 2e-5


@pytest.mark.parametrize("decoder", ["llama", "gemma2"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_masking_gives_what_the_pruner_that_drops_tokens_gives(decoder, side):
    torch.manual_seed(0)
    text = DECODERS[decoder] | {"num_hidden_layers": 4, "initializer_range": 0.2}
    model, processor = assemble(VISION["clip"], text, tokenizer=tiny_tokenizer())
    turns = [
        [user("What do you see?", drawn_image(1), drawn_image(2))],
        [user("List the items one by one.", drawn_image(3))],
    ]
    inputs = processor.apply_chat_template(
        turns,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"padding": True, "padding_side": side},
    )
    options = {"keep_ratio": 0.3, "min_tokens": 2, "layer": 2}
    with TokenSelection(**options).on(model.eval()) as run:
        masked = model(**inputs).logits
    model.set_pruning({"type": "fastv", **options})
    dropped = model(**inputs).logits
    lengths = inputs["attention_mask"].sum(dim=1)
    images = (inputs["input_ids"] == model.config.image_token_id).sum(dim=1)
    for row, (length, count) in enumerate(zip(lengths.tolist(), images.tolist(), strict=True)):
        left = length - count + math.ceil(0.3 * count)
        end, short_end = (None, None) if side == "left" else (length, left)
        found, wanted = masked[row, :end][-3:], dropped[row, :short_end][-3:]
        assert (found - wanted).abs().max() < 1e-4
    assert [layer for (_, layer), report in sorted(run.reports().items()) if report.changed] == [2, 3]


@pytest.mark.parametrize("route", ["rows", "fused"])
@torch.no_grad()
def test_they_add_up_with_others(route):
    model = tiny("llava")
    inputs = prompts("llava", model, after=(7, 4))
    image, real = inputs["input_ids"] == model.config.image_token_id, inputs["attention_mask"].bool()
    method = (
        VAR(sink_dims=[3, 11], tau_rel=0.25, rho=0.2, image_mass=0.05, route=route)
        + SinkBias(alpha=1.3, layers=[1, 2, 3], heads=[0, 3], beta=0.2)
        + FirstToken(bias=1.0, heads={2: [1]})
        + TokenSelection(min_tokens=2)
    )
    with oracle(method, model, image, real):
        wanted = model(**inputs).logits[real]
    with method.on(model) as run:
        found = model(**inputs).logits[real]
    assert (found - wanted).abs().max() < 2e-5
    assert min(run.changed.values()) > 0 and len(run.changed) == 4


@torch.no_grad()
def test_an_image_in_the_second_turn_is_ranked_then():
    model = tiny("llama")
    first, second = torch.tensor([[1, 5, 6, 7]]), torch.tensor([[8, *[IMAGE] * 9, 9, 10]])
    with TokenSelection(min_tokens=2).on(model):
        cache = DynamicCache(config=model.config)
        model(input_ids=first, past_key_values=cache)
        found = model(input_ids=second, past_key_values=cache).logits
        assert prompt_of(cache).found[1, "masked"].sum() == 4  # 9 less 5 that stay
        wanted = model(input_ids=torch.cat([first, second], dim=1)).logits[:, 4:]
    assert (found - wanted).abs().max() < 2e-5


def test_selection_without_an_image_says_so():
    model = tiny("llama")
    with (
        pytest.warns(UserWarning, match="TokenSelection changed nothing: there was no image"),
        TokenSelection().on(model),
    ):
        model(input_ids=torch.tensor([[1, 5, 6, 7]]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sink_bias", {"beta": 0.0}, "beta=0.0"),
        ("sink_bias", {"alpha": 0.0}, "alpha=0.0"),
        ("first_token", {}, "bias"),
        ("first_token", {"bias": math.inf}, "bias=inf"),
        ("head_ablation", {}, "heads"),
        ("head_ablation", {"heads": [0], "mode": "zero"}, "mode"),
        ("head_ablation", {"heads": [0], "epsilon": 2.0}, "epsilon=2.0"),
        ("head_ablation", {"heads": [4]}, r"heads=\[4\].*0 to 3"),
        ("head_ablation", {"heads": {1: [0]}, "layers": [2]}, r"layers=\[2\].*layers \[1\] only"),
        ("head_ablation", {"heads": {9: [0]}}, "heads of layer.*9.*0 to 3"),
        ("token_selection", {"keep_ratio": 0.0}, "keep_ratio=0.0"),
        ("token_selection", {"min_tokens": 0}, "min_tokens=0"),
        ("token_selection", {"layer": 4}, "layer=4.*1 to 3"),
        ("token_selection", {"layers": [1, 3]}, r"layers=\[1\]"),
        ("token_selection", {"sinks": "first_to_go"}, "sink dimensions"),
    ],
)
def test_wrong_options_are_errors_that_name_them(name, options, message):
    model = tiny("llama")
    with pytest.raises(ValueError, match=message), build_intervention({"type": name, **options}).on(model):
        pass

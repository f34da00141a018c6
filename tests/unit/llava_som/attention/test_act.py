import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import DynamicCache

from llava_som.attention.act import ACT
from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.explicit_rows import Step, edited_rows
from llava_som.attention.heads import HeadChoice, described
from llava_som.attention.prompt import Prompt, Tokens
from llava_som.attention.stats import Tally
from tests.decoders import one_of, prompts, tiny
from tests.oracle import oracle

FIXTURE = Path(__file__).parents[3] / "fixtures" / "act_reference.safetensors"
LOW = {"alpha": 1.5, "layers": [1, 2]}  # thresholds that tiny random models reach


@pytest.fixture(scope="module")
def llama():
    model = tiny("llama")
    return model, prompts("llama", model, after=(9, 5))


def nothing(attention):
    """The arguments of `reweight` that ACT has no use for."""
    batch, _, _, keys = attention.shape
    return torch.zeros(batch, keys, 1), torch.zeros(batch, keys, dtype=torch.bool)


def recorded(case):
    with safe_open(FIXTURE, "pt") as file:
        options = json.loads(file.metadata()["cases"])[case]
        return options, file.get_tensor(f"{case}.attention"), file.get_tensor(f"{case}.expected")


def call_of(attention, past=0, prompt=None, is_token=None):
    """A call in which identity values make the output the weights themselves: keys are logarithms of `attention`."""
    batch, heads, length, keys = attention.shape
    if prompt is None:
        seen = torch.ones(batch, keys, dtype=torch.bool) if is_token is None else is_token
        prompt = Prompt(Tokens(torch.zeros_like(seen), seen))
    query = torch.eye(keys)[past : past + length].expand(batch, heads, length, keys)
    whole = torch.zeros(batch, heads, keys, keys)
    whole[:, :, past : past + length] = attention.clamp(min=1e-30).log()
    value = torch.eye(keys).expand(batch, heads, keys, keys)
    mask = None if is_token is None else (torch.ones(length, keys).tril().bool() & is_token[:, None, None])
    tensors = {"query": query, "key": whole.transpose(-1, -2), "value": value, "mask": mask}
    hidden = torch.zeros(batch, length, 1)
    state = {"layer": 2, "hidden": hidden, "prompt": prompt, "past": past, "offset": 0}
    return LayerCall(**state, **tensors, options={"scaling": 1.0})


def edited_weights(method, call):
    step = Step.of(method, call, Tally())
    return edited_rows(call, [step], slice(0, call.query.shape[2]))


def causal(*shape, sinks=(), seed=0):
    """Random causal weights, some keys of which get much."""
    scores = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    scores[..., list(sinks)] += 4
    return scores.masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -torch.inf).softmax(dim=-1)


@pytest.mark.parametrize("case", ["0", "1"])
@pytest.mark.parametrize("mode", ["threshold", "alpha"])
def test_recorded_tensors(case, mode):
    options, attention, expected = recorded(case)
    limit = options["threshold"] * (options["tokens"] if mode == "alpha" else 1)
    method = ACT(beta=options["beta"], heads=options["heads_selected"], **{mode: limit})
    assert (expected - attention).abs().max() > 0.1
    assert (method.reweight(attention, *nothing(attention)) - expected).abs().max() < 1e-5
    assert (edited_weights(method, call_of(attention)) - expected).abs().max() < 1e-5


def test_the_first_token_is_spared_and_not_the_first_sink():
    attention = causal(1, 1, 12, 12, sinks=(3, 7))
    assert attention[..., 0].sum() / 12 < 0.2 < attention[..., 3].sum() / 9
    method = ACT(threshold=0.2, heads=[0])
    [labels] = method.labels(call_of(attention))[0].tolist()
    assert [place for place, label in enumerate(labels) if label] == [3, 7]
    assert method.labels(call_of(causal(1, 1, 12, 12, sinks=(0,))))[0, 0, 0] == 0
    new = method.reweight(attention, *nothing(attention))
    grown = new[0, 0, 8:, 0] / attention[0, 0, 8:, 0]
    assert (grown > 1.01).all()  # it is among the tokens that get what sinks lose
    torch.testing.assert_close(new[..., 8:, 3], 0.4 * attention[..., 8:, 3])


def test_padding_counts_neither_as_first_token_nor_as_one_of_n():
    whole = causal(1, 2, 8, 8, sinks=(0, 5))
    padded = torch.zeros(1, 2, 11, 11)
    padded[..., 3:, 3:] = whole
    is_token = torch.arange(11)[None] >= 3
    for options in ({"alpha": 2.0}, {"threshold": 0.25}):
        expected = edited_weights(ACT(**options), call_of(whole))
        assert (expected - whole).abs().max() > 0.05
        found = edited_weights(ACT(**options), call_of(padded, is_token=is_token))
        torch.testing.assert_close(found[..., 3:, 3:], expected)
        torch.testing.assert_close(ACT(**options).reweight(padded, *nothing(padded))[..., 3:, 3:], expected)


def test_rows_sum_to_one_and_sinks_are_those_of_the_prompt():
    whole = causal(1, 2, 14, 14, sinks=(4,))
    whole[..., 10:, :] = causal(1, 2, 14, 14, sinks=(4, 6, 11))[..., 10:, :]  # sinks of the answer
    method = ACT(alpha=3.0)
    prompt_call = call_of(whole[..., :10, :10])
    edited = edited_weights(method, prompt_call)
    torch.testing.assert_close(edited.sum(dim=-1), torch.ones(1, 2, 10))
    is_sink = prompt_call.prompt.found[2, "ACT sinks"].bool()
    assert is_sink.nonzero()[:, 2].tolist() == [4, 4]
    for at in range(10, 14):
        seen = torch.ones(1, at + 1, dtype=torch.bool)
        prompt_call.prompt.read(at, ~seen[:, :1], seen)
        row = whole[..., at : at + 1, : at + 1]
        new = edited_weights(method, call_of(row, at, prompt_call.prompt))
        on_sinks = row[..., 4:5]
        wanted = row * (1 + 0.6 * on_sinks / (1 - on_sinks))
        wanted[..., 4:5] = 0.4 * on_sinks
        torch.testing.assert_close(new, wanted)
        torch.testing.assert_close(new.sum(dim=-1), torch.ones(1, 2, 1))


def test_a_prompt_in_chunks_has_the_column_means_of_the_whole():
    whole = causal(1, 2, 12, 12, sinks=(4, 7))
    method, expected = ACT(alpha=2.0), call_of(whole)
    labels = method.labels(expected)
    first = call_of(whole[..., :5, :5])
    method.labels(first)
    first.prompt.read(5, torch.zeros(1, 7, dtype=torch.bool), torch.ones(1, 12, dtype=torch.bool))
    chunk = call_of(whole[..., 5:, :], 5, first.prompt)
    assert torch.equal(method.labels(chunk), labels)
    assert labels.sum() == 4
    found, wanted = (call.prompt.found[2, "ACT columns"] for call in (chunk, expected))
    torch.testing.assert_close(found, wanted)


def test_a_row_with_nothing_but_sinks_stays_as_it_is():
    mass = torch.tensor([[0.0, 1.0], [1e-9, 1.0], [0.25, 0.75]])
    factors = ACT(beta=0.0).coefficients(mass)
    assert factors[:2].tolist() == [[1, 1], [1, 1]]
    torch.testing.assert_close(factors[2], torch.tensor([4.0, 0.0]))


@dataclass(frozen=True, kw_only=True)
class SinksOfThePrompt(ACT):
    """An oracle for whole sequences whose first `prompt` tokens were the prompt."""

    prompt: int

    def reweight(self, attention, hidden, is_image, *, observed=None, layer=0):
        edited = attention.clone()
        for row, head in itertools.product(range(len(attention)), self.heads[layer]):
            weights, own = attention[row, head], attention[row, head, : self.prompt, : self.prompt]
            tokens = [place for place in range(self.prompt) if own[place].sum() > 0]
            means = {place: own[place:, place].mean() for place in tokens}
            sinks = [place for place in tokens[1:] if means[place] > self.alpha / len(tokens)]
            for query in range(tokens[0], len(weights)):
                lost = 0.6 * weights[query, sinks].sum()
                edited[row, head, query] *= 1 + lost / (weights[query].sum() - lost / 0.6)
                edited[row, head, query, sinks] = 0.4 * weights[query, sinks]
        return edited


@pytest.mark.parametrize("route", ["rows", "fused"])
@torch.no_grad()
def test_decoding_is_the_oracle_with_the_sinks_of_the_prompt(route, llama):
    model, inputs = llama  # 4 query heads share 2 of keys, the second prompt is padded
    heads = {1: [0, 1, 3], 2: [2]}
    lengths = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "suppress_tokens": [90]}
    with ACT(alpha=1.5, heads=heads, route=route).on(model):
        output = model.generate(**inputs, **lengths, output_logits=True, return_dict_in_generate=True)
    ids, mask = output.sequences, inputs["attention_mask"]
    longer = torch.cat([mask, mask.new_ones(2, 5)], dim=1)
    frozen = SinksOfThePrompt(alpha=1.5, heads=heads, prompt=mask.shape[1])
    with oracle(frozen, model, ids == 90, longer.bool()):
        wanted = model(ids, attention_mask=longer, use_cache=False).logits[:, -6:-1]
    with oracle(ACT(alpha=1.5, heads=heads), model, ids == 90, longer.bool()):
        found_anew = model(ids, attention_mask=longer, use_cache=False).logits[:, -6:-1]
    assert (torch.stack(output.logits, dim=1) - wanted).abs().max() < 3e-5
    assert (found_anew - wanted).abs().max() > 1e-3


@torch.no_grad()
def test_a_second_turn_on_the_cache_adds_its_queries_to_those_of_the_first(llama):
    model, inputs = llama
    inputs = one_of(inputs, 0)
    cache, length = DynamicCache(), inputs["input_ids"].shape[1]
    with ACT(**LOW).on(model):
        ids = model.generate(**inputs, past_key_values=cache, max_new_tokens=4, min_new_tokens=4, do_sample=False)
        read = cache.get_seq_length()
        before = cache.llava_som_prompt.found[1, "ACT columns"]
        model(torch.cat([ids[:, read:], ids[:, :5]], dim=1), past_key_values=cache)
    queries = cache.llava_som_prompt.found[1, "ACT columns"][0, 1, 0].tolist()
    assert before[0, 1, 0].tolist() == list(range(length, 0, -1))
    turn = ids.shape[1] - read + 5
    assert queries == [*range(length + turn, turn, -1), *[turn] * (read - length), *range(turn, 0, -1)]


@pytest.mark.parametrize("options", [{"prompt_lookup_num_tokens": 3}, {"use_cache": False}])
def test_an_answer_does_not_depend_on_how_it_is_read(options, llama):
    model, _ = llama
    for seed in range(4):  # guessed tokens are read several at a time, the first with the prompt
        ids = torch.randint(3, 80, (1, 24), generator=torch.Generator().manual_seed(seed))
        lengths = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
        with ACT(**LOW).on(model):
            assert torch.equal(model.generate(ids, **lengths, **options), model.generate(ids, **lengths))


@torch.no_grad()
def test_beta_1_changes_nothing_and_says_so(llama):
    model, inputs = llama
    attention = causal(1, 2, 9, 9, sinks=(3,))
    assert torch.equal(ACT(beta=1.0, alpha=1.0).reweight(attention, *nothing(attention)), attention)
    plain = model(**inputs).logits
    with pytest.warns(UserWarning, match="ACT changed nothing: beta=1"), ACT(**LOW, beta=1.0).on(model):
        assert (model(**inputs).logits - plain).abs().max() < 5e-6


def test_default_layers_leave_out_the_first_two_and_the_last():
    assert ACT().layers_of(32) == list(range(2, 31))
    assert ACT(threshold=0.1).layers_of(3) == []


@torch.no_grad()
def test_heads_by_layer_from_a_dict_or_a_file(llama, tmp_path):
    model, inputs = llama
    decoder, file = DecoderLayers.of(model), tmp_path / "heads.json"
    HeadChoice({2: [3, 0], 1: []}, described(decoder)).save(file, beta=0.4)
    results = []
    for heads in ({2: [0, 3]}, file, str(file)):
        with ACT(alpha=1.5, heads=heads).on(model) as run:
            results.append(model(**inputs).logits)
        assert run.layers == [[2]]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    with ACT(alpha=1.5, heads=[0, 3], layers=[2]).on(model):
        assert torch.equal(model(**inputs).logits, results[0])
    HeadChoice({}, described(decoder)).save(file)
    with pytest.warns(UserWarning, match="no head is chosen"), ACT(heads=file).on(model):
        model(**inputs)


def test_heads_of_another_model_are_an_error(llama, tmp_path):
    decoder, file = DecoderLayers.of(llama[0]), tmp_path / "heads.json"
    HeadChoice({1: [0]}, described(decoder) | {"width": 64, "model_type": "qwen2"}).save(file)
    with pytest.raises(ValueError, match=r"another model: model_type 'qwen2' \(this model: 'llama'\), width 64"):
        ACT(heads=file).bound(decoder)
    for heads, message in [
        ({9: [0]}, r"heads of layers \[9\]: this decoder has 4 layers"),
        ({1: [4]}, r"heads=\[4\] of layer 1: this decoder has 4"),
        ([-1], r"heads=\[-1\]: this decoder"),
    ]:
        with pytest.raises(ValueError, match=message):
            ACT(heads=heads).bound(decoder)
    with pytest.raises(ValueError, match=r"layers=\[3\]: heads are chosen in layers \[1\] only"):
        ACT(heads={1: [0]}, layers=[3]).bound(decoder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"heads": {"1": [0]}}', '{"decoder": {}, "heads": [1]}', '{"decoder": {}, "heads": {"x": [1]}}',
     '{"decoder": {}, "heads": {"1": "12"}}', '{"decoder": {}, "heads": {"1": [0.5]}}',
     '{"decoder": {}, "heads": {"1": 3}}'],
)  # fmt: skip
def test_a_malformed_file_of_heads_is_an_error(text, tmp_path):
    (tmp_path / "heads.json").write_text(text)
    with pytest.raises(ValueError, match=r"heads\.json: is no file of heads"):
        HeadChoice.load(tmp_path / "heads.json")
    with pytest.raises(ValueError, match="cannot be read"):
        HeadChoice.load(tmp_path / "absent.json")


@pytest.mark.parametrize("options", [{"beta": 1.5}, {"alpha": 0.0}, {"threshold": -0.1}])
def test_options_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.*must be"):
        ACT(**options)

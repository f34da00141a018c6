import json
import math

import pytest
import torch

from llava_som.attention.head_ablation import HeadAblation
from llava_som.attention.head_attribution import HeadAttribution
from llava_som.attention.head_measures import kl_divergence, principal_angles, read_ends
from tests.decoders import one_of, prompts, tiny
from tests.oracle import oracle

DEPTH, HEADS, WIDTH = 4, 4, 8
FIRST, SECOND = (3, 0), (2, 3)  # planted: every other head says nothing


def planted(model):
    """A decoder in which two heads alone reach the output, one of them louder."""
    for number, layer in enumerate(model.get_decoder().layers):
        weight = layer.self_attn.o_proj.weight.data
        loudness = torch.zeros(HEADS, 1)
        for (where, head), factor in ((FIRST, 1.0), (SECOND, 0.6)):
            if where == number:
                loudness[head] = factor
        weight.mul_(loudness.expand(HEADS, WIDTH).flatten())
        layer.mlp.down_proj.weight.data.zero_()
    return model


def texts(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(3, 88, (1, 9), generator=generator)} for _ in range(count)]


@pytest.fixture(scope="module")
def llama():
    return planted(tiny("llama"))


@pytest.mark.parametrize("measure", ["kl", "angles"])
@pytest.mark.parametrize("mode", ["undifferentiated", "scaling"])
def test_ships_finds_the_head_that_matters(measure, mode, llama):
    before = {name: value.clone() for name, value in llama.state_dict().items()}
    scores = HeadAttribution(measure=measure, mode=mode).ships(llama, texts(5))
    assert len(scores.scores) == DEPTH * HEADS
    ranking = scores.ranked()
    assert [head for head, _ in ranking[:2]] == [FIRST, SECOND]
    assert ranking[0][1] > ranking[1][1] > 1000 * abs(ranking[2][1])
    assert all(torch.equal(value, before[name]) for name, value in llama.state_dict().items())
    assert bool(scores.by_prompt) == (measure == "kl")


@pytest.mark.parametrize("measure", ["kl", "angles"])
def test_sahara_adds_the_head_that_changes_most_beside_those_before(measure, llama):
    options = {"measure": measure, "heads": {2: [1, 3], 3: [0, 2]}}
    scores = HeadAttribution(**options).sahara(llama, texts(5), most=3)
    *two, third = scores.scores
    assert two == [FIRST, SECOND] and third in [(2, 1), (3, 2)]
    alone = HeadAttribution(**options).ships(llama, texts(5))
    assert pytest.approx(scores.scores[FIRST]) == alone.scores[FIRST]
    assert scores.scores[FIRST] < scores.scores[SECOND]  # both gone
    assert scores.scores[third] == pytest.approx(scores.scores[SECOND])
    assert len(HeadAttribution(**options).sahara(llama, texts(5), most=9).scores) == 4


@pytest.mark.parametrize("name", ["llava", "gpt_oss", "opt"])
def test_ships_is_the_kl_between_plain_and_ablated(name):
    model = tiny(name)
    batch = prompts(name, model, after=(7, 4))
    scores = HeadAttribution(heads={1: [2]}).ships(model, [batch])
    image, real = batch["input_ids"] == model.config.image_token_id, batch["attention_mask"].bool()
    with torch.no_grad():
        plain = model(**batch).logits[:, -1].double().log_softmax(-1)
        with oracle(HeadAblation(heads={1: [2]}), model, image, real):
            ablated = model(**batch).logits[:, -1].double().log_softmax(-1)
    wanted = (plain.exp() * (plain - ablated)).sum(dim=-1)
    assert wanted.min() > 1e-6
    assert scores.by_prompt == {(1, 2): pytest.approx(wanted.tolist(), rel=1e-3)}
    assert scores.scores[1, 2] == pytest.approx(float(wanted.mean()), rel=1e-3)
    one_by_one = HeadAttribution(heads={1: [2]}).ships(model, [one_of(batch, 0), one_of(batch, 1)])
    assert one_by_one.by_prompt[1, 2] == pytest.approx(wanted.tolist(), rel=1e-2)


def test_ends_are_those_of_the_last_tokens_on_whichever_side_padding_is():
    model = tiny("llama")
    long, short = (torch.arange(3, 3 + length)[None] for length in (8, 5))
    alone = read_ends(model, [{"input_ids": long}, {"input_ids": short}], among=[5, 9])
    for pad in ((3, 0), (0, 3)):
        mask = torch.nn.functional.pad(torch.ones_like(short), pad)
        ids = torch.nn.functional.pad(short, pad)
        batch = {"input_ids": torch.cat([long, ids]), "attention_mask": torch.cat([torch.ones_like(long), mask])}
        together = read_ends(model, [batch], among=[5, 9])
        torch.testing.assert_close(together.log_probs, alone.log_probs, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.states, alone.states, atol=1e-5, rtol=0)
    assert alone.log_probs.exp().sum(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_exact_divergence_and_angles():
    ours, theirs = torch.tensor([[0.5, 0.5, 0.0]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert kl_divergence(ours, theirs).tolist() == pytest.approx([0.5 * math.log(2)])
    states = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    turn = torch.eye(3, dtype=torch.float64)
    angle = math.radians(1e-5)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[2, 0], turn[0, 2] = math.sin(angle), -math.sin(angle)
    assert principal_angles(states, turn @ states, 1).tolist() == pytest.approx([1e-5], rel=1e-6)
    assert principal_angles(states, turn @ states, 2).tolist() == pytest.approx([0, 1e-5], rel=1e-6, abs=1e-12)
    assert principal_angles(states, states[[1, 0, 2]], 1).tolist() == pytest.approx([90.0])


def test_the_report_can_be_read_and_kept(tmp_path, llama):
    scores = HeadAttribution(layers=[1, 3]).ships(llama, texts(2))
    rows = scores.table(most=2).splitlines()
    assert (
        rows[0].split()[:3] == ["rank", "layer", "head"] and rows[1].split()[:3] == ["1", "3", "0"] and len(rows) == 3
    )
    scores.save(tmp_path / "ranking.json")
    saved = json.loads((tmp_path / "ranking.json").read_text())
    assert saved["ranking"][0] == {"layer": 3, "head": 0, "score": scores.scores[FIRST]}
    assert saved["decoder"]["model_type"] == "llama" and saved["mode"] == "undifferentiated"
    assert "heads" in saved and len(saved["by_prompt"]) == 2 * HEADS


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ({}, 0, "no prompts"),
        ({"measure": "cosine"}, 1, "measure='cosine'"),
        ({"rank": 0}, 1, "rank=0"),
        ({"among": [5]}, 1, "at least two"),
        ({"among": [5, 96]}, 1, r"among=\[96\].*0 to 95"),
        ({"measure": "angles"}, 1, "rank=1 with 1 prompts"),
        ({"layers": [4]}, 1, "layers=.4.*0 to 3"),
        ({"heads": {0: []}}, 1, "no head to try"),
    ],
)
def test_wrong_use_is_an_error(options, count, message, llama):
    with pytest.raises(ValueError, match=message):
        HeadAttribution(**options).ships(llama, texts(count))

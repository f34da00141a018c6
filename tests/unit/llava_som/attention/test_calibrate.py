import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llava_som import cli
from llava_som.attention.act import ACT
from llava_som.attention.calibrate import Rule, bound, calibrate, gain, load_model
from llava_som.attention.choices import ChoiceExample, ChoiceScorer, digest, draw_examples, read_examples
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.trials import Trial, Trials
from llava_som.attention.upper_layers import recorded_input, started_at
from tests.decoders import NAMES, prompts, tiny
from tests.tiny import drawn_image, tiny_model, tiny_tokenizer

FIXTURE = Path(__file__).parents[3] / "fixtures" / "choices.jsonl"
ACT_LOW = ACT(alpha=1.2, beta=0.0, layers=[1, 2])
WORDS = ["red", "blue", "green", "yellow", "white", "circle", "square", "triangle", "star", "cross"]


def text_examples(count=12):
    """Two datasets of prompts of unlike length."""
    records = [
        {
            "id": f"q{number}",
            "dataset": ("colours", "forms")[number % 2],
            "prompt": f"List the tagged items: {' '.join(WORDS[: 3 + number % 4])}. What is tag {number}?",
            "choices": [f" {WORDS[number % 5]}", f" {WORDS[5 + number % 5]}"],
            "answer": f" {WORDS[5 * (number % 3 == 0) + number % 5]}",
        }
        for number in range(count)
    ]
    return [ChoiceExample.from_record(record, Path(), "x") for record in records]


def a_decoder(seed=0):
    """A random decoder of text that reads the tiny tokenizer's ids."""
    model = tiny("llama", seed)
    model.resize_token_embeddings(len(tiny_tokenizer()))
    with torch.no_grad():
        model.lm_head.weight.normal_()
    return model.eval()


def run(out, examples=None, seed=0, **options):
    options = {"act": ACT_LOW, "name": "tiny", "rule": Rule(confidence=0.0), "batch_size": 5, **options}
    return calibrate(a_decoder(seed), tiny_tokenizer(), examples or text_examples(), out, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("calibration")
    return out, run(out)


def rows_of(out):
    return [json.loads(line) for line in (out / "calibration.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_family_of_decoders_starts_at_any_layer(name):
    model = tiny(name)
    inputs = prompts(name, model, after=(7, 4))
    plain, layers = model(**inputs, use_cache=False).logits, DecoderLayers.of(model).modules
    with recorded_input(layers[2]) as recorded:
        model(**inputs, use_cache=False)
    ran = []
    hooks = [layer.mlp.register_forward_hook(lambda *_: ran.append(1)) for layer in layers if hasattr(layer, "mlp")]
    with started_at(layers, 2, recorded[0], None):
        found = model(**inputs, use_cache=False).logits
    assert len(ran) == (2 if hooks else 0)
    is_token = inputs["attention_mask"].bool()
    assert torch.equal(found[is_token], plain[is_token])
    assert torch.equal(model(**inputs, use_cache=False).logits, plain)
    assert len(recorded) == 1 and not any("forward" in vars(layer) for layer in layers)


def test_a_decoder_whose_layers_share_more_than_one_stream_runs_whole(tmp_path):
    model, examples = a_decoder(), text_examples(4)
    layers, early = DecoderLayers.of(model).modules, []
    layers[0].register_forward_hook(lambda _layer, _args, output: early.append(output))
    layers[3].register_forward_pre_hook(lambda _layer, args: (args[0] + 5 * early[-1], *args[1:]))
    with pytest.warns(UserWarning, match="Layer 2 of this decoder needs more than its input"):
        result = calibrate(model, tiny_tokenizer(), examples, tmp_path, act=replace(ACT_LOW, layers=[2]), batch_size=4)
    scorer = ChoiceScorer(model, tiny_tokenizer(), examples, 4)
    for trial in result.trials:
        with replace(ACT_LOW, layers=None, heads={2: [trial.head]}).on(model):
            right = int(scorer.is_right(scorer.batches[0], scorer.logits(scorer.batches[0])).sum())
        assert sum(row["correct"] for row in trial.rows) == right
    assert not any("forward" in vars(layer) for layer in layers)


def test_rows_are_what_editing_one_head_alone_does(finished):
    out, result = finished
    examples, rows = text_examples(), rows_of(out)
    model = a_decoder()
    scorer = ChoiceScorer(model, tiny_tokenizer(), examples, 1)

    def right():
        found = np.zeros(len(examples), dtype=bool)
        for batch in scorer.batches:
            found[batch.places] = scorer.is_right(batch, scorer.logits(batch)).numpy()
        return found

    baseline, changed = right(), 0
    assert [(row["layer"], row["head"]) for row in rows[::2]] == [(k, h) for k in (1, 2) for h in range(4)]
    for layer, head in [(1, 0), (1, 3), (2, 1), (2, 2)]:
        with replace(ACT_LOW, layers=None, heads={layer: [head]}).on(model):
            edited = right()
        for row in rows:
            if (row["layer"], row["head"]) == (layer, head):
                own = np.array([example.dataset == row["dataset"] for example in examples])
                assert (row["n"], row["correct"]) == (own.sum(), edited[own].sum())
                assert row["baseline_correct"] == baseline[own].sum()
                assert (row["gained"], row["lost"]) == (
                    (edited & ~baseline)[own].sum(),
                    (baseline & ~edited)[own].sum(),
                )
                changed += row["gained"] + row["lost"]
    assert changed > 0
    kept = {layer: [t.head for t in result.trials if t.layer == layer and gain(t) > 0] for layer in (1, 2)}
    assert result.chosen.heads == {layer: heads for layer, heads in kept.items() if heads}


def test_the_file_of_heads_is_what_act_takes(finished):
    out, result = finished
    content = json.loads((out / "heads.json").read_text())
    assert content["heads"] == {str(layer): heads for layer, heads in result.chosen.heads.items()} != {}
    assert content["tried"] == {"1": 4, "2": 4} and content["beta"] == 0.0 and content["model"] == "tiny"
    assert ACT(heads=out / "heads.json").bound(DecoderLayers.of(a_decoder())).heads == result.chosen.heads
    assert "8 heads tried" in result.summary() and "right without an edit" in result.summary()


@pytest.mark.parametrize("cut", ["between heads", "between datasets", "in a line", "in the first head", "empty"])
def test_a_run_that_was_killed_goes_on_to_the_same_files(cut, finished, tmp_path, monkeypatch):
    whole = (finished[0] / "calibration.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    left = {"between heads": lines[:6], "between datasets": lines[:7], "in a line": [*lines[:6], lines[6][:40]],
            "in the first head": lines[:1], "empty": []}[cut]  # fmt: skip
    (tmp_path / "calibration.jsonl").write_bytes(b"".join(left))
    tried = []
    add = Trials.add
    monkeypatch.setattr(Trials, "add", lambda self, *args: (tried.append(args[:2]), add(self, *args)))
    run(tmp_path)
    assert len(tried) == (5 if len(left) > 2 else 8)
    for file in ("calibration.jsonl", "heads.json"):
        assert (tmp_path / file).read_bytes() == (finished[0] / file).read_bytes()


def test_rows_of_another_setting_are_refused(finished, tmp_path):
    whole = (finished[0] / "calibration.jsonl").read_bytes()
    (tmp_path / "calibration.jsonl").write_bytes(whole)
    for options, message in [
        ({"act": replace(ACT_LOW, beta=0.5)}, r"another setting: beta 0.0 \(now 0.5\)\."),
        ({"act": replace(ACT_LOW, threshold=0.1)}, r"threshold_mode 'alpha_over_n' \(now 'constant'\), threshold 1.2"),
        ({"name": "other"}, r"model 'tiny' \(now 'other'\)"),
        ({"examples": text_examples(10)}, r"examples '\w{12}' \(now '\w{12}'\)"),
        ({"seed": 4}, "the unedited model had other scores"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(tmp_path, **options)
    assert (tmp_path / "calibration.jsonl").read_bytes() == whole
    for broken, message in [
        (b"{}\n" + whole, ":1: is no row"),
        (whole.split(b"\n", 1)[1], "lacks rows of layer 1, head 0"),
    ]:
        (tmp_path / "calibration.jsonl").write_bytes(broken)
        with pytest.raises(ValueError, match=message):
            run(tmp_path)


def test_what_a_decoder_does_not_have_is_not_tried(tmp_path):
    with pytest.raises(ValueError, match=r"layers=\[7\]"):
        run(tmp_path, act=ACT(layers=[7]))
    with pytest.raises(ValueError, match="nothing to try"):
        run(tmp_path, act=ACT(heads=[]))
    assert not list(tmp_path.iterdir())


def trial(*counts):
    """Of datasets with (n, gained, lost)."""
    rows = [{"n": n, "gained": gained, "lost": lost} for n, gained, lost in counts]
    return Trial(1, 0, rows)


def test_the_rule():
    assert gain(trial((40, 4, 0), (20, 0, 1))) == pytest.approx((0.1 - 0.05) / 2)
    for counts, by_mean, by_bootstrap in [
        ([(40, 1, 0)], True, False),
        ([(40, 9, 8)], True, False),
        ([(40, 6, 0)], True, True),
        ([(40, 0, 0)], False, False),
        ([(40, 0, 3)], False, False),
        ([(40, 8, 0), (40, 0, 1)], True, True),
    ]:
        assert Rule(confidence=0.0).keeps(trial(*counts), 0) is by_mean
        assert Rule().keeps(trial(*counts), 0) is by_bootstrap
    assert not Rule(datasets=2).keeps(trial((40, 8, 0), (40, 0, 1)), 0)
    with pytest.raises(ValueError, match=r"confidence=1\.0"):
        Rule(confidence=1.0)


def test_the_bound_is_that_of_resampled_pairs():
    changes = np.array([1] * 9 + [-1] * 3 + [0] * 28)
    rng = np.random.default_rng(5)
    means = changes[rng.integers(0, 40, (20_000, 40))].mean(axis=1)
    found = bound(trial((40, 9, 3)), 0.9, 0)
    assert abs(found - np.quantile(means, 0.1)) <= 1 / 40
    assert found == bound(trial((40, 9, 3)), 0.9, 0) > bound(trial((40, 9, 3)), 0.99, 0)


def test_reading_examples():
    examples = read_examples(FIXTURE)
    assert {example.dataset for example in examples} == {"reviews", "facts"} and len(examples) == 40
    drawn = draw_examples(examples, 5, seed=1)
    assert [e.dataset for e in drawn] == ["reviews"] * 5 + ["facts"] * 5 and drawn == draw_examples(examples, 5, 1)
    assert drawn != draw_examples(examples, 5, seed=2) and digest(drawn) != digest(examples)
    assert draw_examples(examples, 99, 0) == examples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["Yes"]}, "must be a list of two texts or more"),
        ({"choices": ["Yes", ""]}, "none of them empty"),
        ({"answer": "yes"}, "answer='yes'"),
        ({"choices": ["Yes", "Yes", "No"]}, "one of different choices"),
        ({"messages": None}, "messages=None: must be a list"),
        ({"prompt": "And?"}, "has prompt and messages"),
        ({"messages": [{"role": "user", "content": "<image>What?"}]}, "names 0 image"),
        ({"messages": [{"role": "assistant", "content": "What?"}]}, "alternate"),
    ],
)
def test_a_wrong_example_is_an_error_that_names_it(change, message, tmp_path):
    good = {"messages": [{"role": "user", "content": "Is it?"}], "choices": ["Yes", "No"], "answer": "No"}
    file = tmp_path / "held_out.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(ValueError, match=rf"held_out\.jsonl, example held_out\.jsonl:2: .*{message}"):
        read_examples(file)


@pytest.mark.parametrize(
    ("prompt", "choices", "message"),
    [
        ("The figure is a", [" red circle", " red star"], "two begin with the token ' red'"),
        ("List the tag", ["ged items", "s"], "the choice 'ged items' has no first token of its own"),
    ],
)
def test_choices_that_the_first_token_does_not_tell_apart_are_an_error(prompt, choices, message):
    record = {"id": "q7", "prompt": prompt, "choices": choices, "answer": choices[1]}
    with pytest.raises(ValueError, match=f"q7: .*{message}"):
        ChoiceScorer(None, tiny_tokenizer(), [ChoiceExample.from_record(record, Path(), "x")])


def test_images_are_read_and_batches_score_what_single_examples_score(tmp_path):
    model, processor = tiny_model()
    lines = []
    for number in range(5):
        drawn_image(number).save(tmp_path / f"{number}.png")
        question = {"role": "user", "content": f"<image>What is tag {'1. ' * number}?"}
        lines.append({"messages": [question], "image": f"{number}.png", "choices": ["red", "blue"], "answer": "blue"})
    lines.append({"prompt": "What is red?", "choices": [" circle", " square"], "answer": " circle"})
    (tmp_path / "seen.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    examples = read_examples(tmp_path / "seen.jsonl")
    logits = {}
    for size in (1, 4):
        scorer = ChoiceScorer(model, processor, examples, size)
        for batch in scorer.batches:
            logits |= {(size, place): row for place, row in zip(batch.places, scorer.logits(batch), strict=True)}
    for place in range(6):
        torch.testing.assert_close(logits[1, place], logits[4, place], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="shows images, which a model of text alone"):
        ChoiceScorer(model, processor.tokenizer, examples)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    model, processor = load_model(str(tmp_path / "model"))
    result = calibrate(model, processor, examples, tmp_path / "out", act=ACT(alpha=1.2, layers=[1]), batch_size=4)
    assert len(result.trials) == 4 and result.baseline["seen"][0] == 6


def test_the_command_takes_a_decoder_of_text_alone(tmp_path, capsys):
    a_decoder().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    file = tmp_path / "asked.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": WORDS[n], "choices": ["1", "2"], "answer": "1"}) + "\n" for n in range(4))
    )
    words = ["calibrate", tmp_path / "model", file, "-o", tmp_path / "heads", "--layers", "1,2-2", "--alpha", "1.2"]
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in [*words, "--confidence", "0", "--per-dataset", "2", "--seed", "3"]])
    assert "8 heads tried" in capsys.readouterr().out and not end.value.code
    rows = rows_of(tmp_path / "heads")
    assert [len(rows), rows[0]["seed"], rows[0]["n"], rows[0]["dataset"]] == [8, 3, 2, "asked"]
    with pytest.raises(SystemExit, match="write numbers and ranges"):
        cli.main([str(word) for word in [*words[:5], "--layers", "a-b"]])

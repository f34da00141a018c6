"""Evaluation with an intervention, through lmms-eval itself: every task runs with and without it, and is compared."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import torch

from eval.__main__ import main
from eval.config import EvalConfig
from eval.results import Results
from eval.run import _decoding, evaluate
from eval.tasks.som_listing import example
from llava_som import ACT, VAR
from llava_som.inference import Assistant
from tests.decoders import tiny
from tests.e2e.test_eval import write_task
from tests.scripted import scripted_model
from tests.tiny import assistant as said
from tests.tiny import drawn_image, tiny_model, user

pytestmark = pytest.mark.e2e

OPTIONS = {"sink_dims": [3, 11, 17], "tau_rel": 0.25, "rho": 0.2, "image_mass": 0.05}
STEERED = {"type": "var", **OPTIONS}
CHOICES = ["red circle", "blue square", "a green triangle and a yellow star"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return example.write(tmp_path_factory.mktemp("listing"))


@pytest.fixture(scope="module")
def model():
    return Assistant(tiny("ours"), tiny_model()[1])


@pytest.fixture
def folder(model, tmp_path):
    for part in (model.model, model.processor):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def listing(data, **options):
    shape = {"limit": 3, "max_new_tokens": 6, "batch_size": 2}
    return EvalConfig(tasks="som_listing_tagged", data=str(data), **shape | options)


def answers(samples):
    return [sample.answer for sample in samples]


def test_both_runs_are_what_each_is_by_itself(data, model, monkeypatch, tmp_path):
    from eval.report import markdown, write_report

    asked, answer = [], model.answer
    monkeypatch.setattr(model, "answer", lambda talks, **options: asked.extend(talks) or answer(talks, **options))
    alone = evaluate(listing(data, batch_size=1), model)
    monkeypatch.undo()
    both = evaluate(listing(data, intervention=STEERED), model)
    with VAR(**OPTIONS).on(model.model):
        by_hand = {talk[0]["content"][0]["image"].tobytes(): model.answer([talk], 6)[0] for talk in asked}
    assert both.paired.samples == alone.samples and both.paired.scores == alone.scores
    assert sorted(answers(both.samples)) == sorted(by_hand.values())
    assert answers(both.samples) != answers(alone.samples)
    assert [layer.layer for layer in both.paired.effect.layers] == [0, 1, 2]
    assert all(0 < layer.changed <= layer.looked_at and layer.moved > 0 for layer in both.paired.effect.layers)
    assert both.run["decoding"] == {"som_listing_tagged": "greedy, max_new_tokens=6"}
    assert both.run["attention"] == "sdpa, float32, cpu"
    assert "rho=0.2" in both.run["intervention"]["VAR"] and "layers=0-2" in both.run["intervention"]["VAR"]
    write_report(both, tmp_path)
    assert Results.load(tmp_path) == both
    for heading in ("Change by VAR, document by document", "Scores with VAR", "Scores without intervention"):
        assert f"## {heading}" in markdown(both)


def test_without_strength_every_difference_is_zero(data, model, caplog):
    results = evaluate(listing(data, intervention=[STEERED | {"p": 0.0}]), model)
    assert results.samples == results.paired.samples
    assert {(change.difference, change.low, change.high) for change in results.paired.differences} == {(0.0, 0.0, 0.0)}
    assert len(results.paired.differences) == len(results.scores)
    (note,) = results.paired.effect.notes
    assert note.startswith("VAR changed nothing") and note in caplog.text


def test_an_assistant_brings_its_intervention_and_keeps_it(data, model):
    steered = replace(model, intervention=[STEERED, {"type": "act", "alpha": 1.5, "layers": [1, 2], "beta": 0.2}])
    brought = evaluate(listing(data), steered)
    given = evaluate(listing(data, intervention=VAR(**OPTIONS) + ACT(alpha=1.5, layers=[1, 2], beta=0.2)), model)
    assert (brought.samples, brought.paired) == (given.samples, given.paired)
    assert brought.paired.effect.name == steered.intervention.name == "VAR + ACT"
    with pytest.raises(ValueError, match="has an intervention already"):
        evaluate(listing(data, intervention=STEERED), steered)


def test_given_answers_are_scored_under_the_intervention(model, tmp_path):
    rows, losses = [], {"plain": [], "edited": []}
    for number in range(2):
        image, question = drawn_image(number), f"What is tag {number}?"
        rows.append({"image": image, "question": question, "choices": CHOICES, "answer": 0})
        losses["plain"] += losses_of(model, image, question)
        with VAR(**OPTIONS).on(model.model):
            losses["edited"] += losses_of(model, image, question)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/fields.py").write_text("def image(doc):\n    return [doc['image']]\n")
    accuracy = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    fields = {"doc_to_text": "question", "doc_to_target": "answer", "doc_to_choice": "choices"}
    path = write_task(tmp_path / "tasks", "choice", rows, output_type="multiple_choice", metric_list=accuracy, **fields)
    with open(f"{path}/choice.yaml", "a") as task:
        task.write("doc_to_visual: !function fields.image\n")
    results = evaluate(EvalConfig(tasks="choice", include_path=path, batch_size=4, intervention=STEERED), model)
    assert [json.loads(answer)[0] for answer in answers(results.paired.samples)] == pytest.approx(
        losses["plain"][:: len(CHOICES)], abs=1e-5
    )
    assert [json.loads(answer)[0] for answer in answers(results.samples)] == pytest.approx(
        losses["edited"][:: len(CHOICES)], abs=1e-5
    )
    assert losses["plain"] != pytest.approx(losses["edited"], abs=1e-3)


def losses_of(model, image, question):
    """transformers' own loss of each choice, one conversation at a time."""
    asked = [user(question, image)]
    template = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    prompt = model.processor.apply_chat_template([asked], add_generation_prompt=True, **template)
    found = []
    for choice in CHOICES:
        talk = [*asked, said(choice)]
        inputs = model.processor.apply_chat_template([talk], continue_final_message=True, **template)
        labels = inputs["input_ids"].clone()
        labels[:, : prompt["input_ids"].shape[1]] = -100
        with torch.no_grad():
            found.append(float(model.model(**inputs, labels=labels).loss))
    return found


def test_the_cache_keeps_runs_and_options_apart(data, model, folder, tmp_path, monkeypatch):
    asked, answer = [], Assistant.answer

    def count(self, conversations, *args, **options):
        asked.extend(conversations)
        return answer(self, conversations, *args, **options)

    monkeypatch.setattr(Assistant, "answer", count)

    def run(out, **options):
        asked.clear()
        words = [f"{key}={json.dumps(value)}" for key, value in options.items()]
        argv = [
            "tasks=som_listing_tagged",
            f"data={data}",
            f"model={folder}",
            "limit=2",
            "max_new_tokens=6",
            "device=cpu",
        ]
        assert main([*argv, f"cache={tmp_path / 'cache'}", f"out={tmp_path / out}", *words]) == 0
        return Results.load(tmp_path / out), len(asked)

    first, calls = run("first", intervention=STEERED)
    assert calls == 4  # two documents, twice
    again, calls = run("again", intervention=STEERED)
    assert (again.samples, again.paired.samples, calls) == (first.samples, first.paired.samples, 0)
    assert again.paired.effect.notes == [
        "All answers came from the cache, so nothing was counted; the report of the run that made them tells."
    ]
    other, calls = run("other", intervention=STEERED | {"p": 0.0})
    assert (calls, answers(other.samples)) == (2, answers(first.paired.samples))
    plain, calls = run("first")  # over the report of a run with an intervention
    assert (calls, plain.samples, plain.paired) == (0, first.paired.samples, None)
    assert not (tmp_path / "first/samples_without_intervention.jsonl").exists()


def test_lmms_evals_own_command_line_can_have_an_intervention(model, folder):
    from eval.model import LlavaSomSimple, continuation_scores

    adapter = LlavaSomSimple(str(folder), device="cpu", intervention=STEERED)
    talks = [[user("What is tag 1?", drawn_image(1))]]
    continued = [[*talks[0], said("red circle")]]
    with VAR(**OPTIONS).on(model.model):
        wanted = continuation_scores(model, talks, continued)
    found = continuation_scores(adapter.assistant, talks, continued)
    assert found[0][0] == pytest.approx(wanted[0][0], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("vra", r"Unknown intervention 'vra'\. Did you mean 'var'"),
        ({"type": "var", "roh": 0.5}, "Unknown option 'roh'. Did you mean 'rho'"),
        ([STEERED, "acct"], "Did you mean 'act'"),
    ],
)
def test_wrong_names_and_options_are_said_before_weights_are_read(data, given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(listing(data, model="/nowhere", intervention=given))


def test_what_does_not_fit_is_said_before_the_first_answer(data, model, monkeypatch):
    monkeypatch.setattr(model, "answer", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match=r"No sink dimensions are known for 'llama' .* sink_dims="):
        evaluate(listing(data, intervention={"type": "var", "tau_rel": 0.25}), model)
    with pytest.raises(ValueError, match=r"layers=\[7\]: this decoder has 4 layers"):
        evaluate(listing(data, intervention=STEERED | {"layers": [7]}), model)
    with pytest.raises(ValueError, match="intervention=VAR: needs a model of ours"):
        evaluate(listing(data, intervention=STEERED), scripted_model(lambda *_: ""))


def test_nothing_of_the_intervention_is_left_also_in_training_mode(data, model):
    model.model.train()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # what it did is in the report, not among the warnings
            evaluate(listing(data, limit=1, intervention=STEERED | {"p": 0.0}), model)
        assert model.model.training
    finally:
        model.model.eval()
    assert "generate" not in vars(model.model)


@pytest.mark.parametrize(
    ("stated", "mode"),
    [
        ({"max_new_tokens": 8}, "greedy, max_new_tokens=8"),
        ({"max_new_tokens": 8, "num_beams": 5}, "beam search, num_beams=5, max_new_tokens=8"),
        ({"max_new_tokens": 8, "temperature": 0.7}, "sampling, max_new_tokens=8, temperature=0.7"),
    ],
)
def test_the_decoding_mode_is_said(stated, mode):
    assert _decoding({"generation_kwargs": stated}) == mode

"""Evaluation through lmms-eval itself, offline: our tasks, a public one, likelihoods, the cache, the command line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from eval.__main__ import main
from eval.config import EvalConfig
from eval.results import Results
from eval.run import evaluate
from eval.tasks.docdownstream.deepform import example as deepform
from eval.tasks.docdownstream.dude import example as dude
from eval.tasks.docdownstream.mp_docvqa import example as multi_page
from eval.tasks.doclocal4k import example as doclocal4k
from eval.tasks.som_listing import example
from llava_som.inference import Assistant
from tests.scripted import scripted_model
from tests.tiny import assistant as said
from tests.tiny import drawn_image, tiny_model, user

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return example.write(tmp_path_factory.mktemp("listing"))


@pytest.fixture(scope="module")
def model():
    return Assistant(*tiny_model())


@pytest.mark.parametrize(("task", "file"), [("som_listing_tagged", "0.png"), ("som_listing_untagged", "clean/0.png")])
def test_each_variant_shows_its_own_image(data, model, monkeypatch, task, file):
    seen = []

    def look(conversations, **options):
        seen.extend(part["image"] for talk in conversations for part in talk[0]["content"] if part["type"] == "image")
        return ["1. red circle"] * len(conversations)

    monkeypatch.setattr(model, "answer", look)
    evaluate(EvalConfig(tasks=task, data=str(data), limit=1), model)
    assert [image.tobytes() for image in seen] == [Image.open(data.parent / file).convert("RGB").tobytes()]


def test_answers_do_not_depend_on_the_batch(data, model):
    runs = [
        evaluate(EvalConfig(tasks="som_listing_tagged", data=str(data), batch_size=size, max_new_tokens=12), model)
        for size in (1, 3)
    ]
    answers = [[sample.answer for sample in run.samples] for run in runs]
    assert answers[0] == answers[1] and len(answers[0]) == 5
    assert runs[0].run["decoding"] == {"som_listing_tagged": "greedy, max_new_tokens=12"}


def test_a_model_answers_documents_of_several_pages(tmp_path, model, monkeypatch):
    """All twelve pages reach the model in order; scores come with the groups and their intervals."""
    seen, answer = [], model.answer

    def look(conversations, **options):
        seen.extend([part["image"] for part in talk[0]["content"] if part["type"] == "image"] for talk in conversations)
        return answer(conversations, **options)

    monkeypatch.setattr(model, "answer", look)
    config = EvalConfig(tasks="docdownstream2", data=str(multi_page.write(tmp_path)), max_new_tokens=4)
    dude.write(tmp_path)
    results = evaluate(config, model)
    pages = [tmp_path / f"imgs/MP-DocVQA_val/2_{page}.png" for page in range(12)]
    longest = max(seen, key=len)
    assert [page.tobytes() for page in longest] == [Image.open(page).convert("RGB").tobytes() for page in pages]
    assert {(score.task, score.n) for score in results.scores if score.metric == "anls"} == {
        ("docdownstream_mp_docvqa", 3),
        ("docdownstream_dude", 4),
    }
    assert results.score("docdownstream_dude", "anls_list").n == 1
    assert len(results.samples) == 7 and all(sample.answer for sample in results.samples)


def test_a_report_of_forms_states_f1_with_its_interval(tmp_path, model):
    for part in (model.model, model.processor):
        part.save_pretrained(tmp_path / "model")
    argv = ["tasks=docdownstream_deepform,doclocal4k", f"data={doclocal4k.write(deepform.write(tmp_path / 'data'))}"]
    assert main([*argv, f"model={tmp_path / 'model'}", "max_new_tokens=4", "device=cpu", f"out={tmp_path}"]) == 0
    report = (tmp_path / "report.md").read_text()
    for task, metric, documents in (
        ("docdownstream_deepform", "f1", 10),
        ("doclocal4k_recognition", "bleu", 4),
        ("doclocal4k_grounding", "iou50", 4),
    ):
        row = next(line for line in report.splitlines() if line.startswith(f"| {task} | {metric} ↑"))
        assert row.endswith(f"| bootstrap | {documents} |")


def test_the_document_suite_names_tasks_that_lmms_eval_has(tmp_path):
    from eval.task_index import find_tasks, leaf_tasks

    index, names = find_tasks(EvalConfig(tasks="documents"), tmp_path)
    assert names == ["documents"]
    assert set(leaf_tasks(index, "documents")) <= set(index.all_subtasks)


def test_changed_data_is_read_again(tmp_path, model):
    for images in (2, 3):
        file = example.write(tmp_path, images)
        results = evaluate(
            EvalConfig(tasks="som_listing_tagged", data=str(file), max_new_tokens=2), scripted_model(lambda *_: "1. x")
        )
        assert results.score("som_listing_tagged", "accuracy").n == images


def write_task(folder, name, rows, **settings):
    import yaml
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    folder.mkdir(exist_ok=True)
    table = Dataset.from_list(rows)
    table = table.cast(Features({**table.features, "image": ImageFeature()}))
    table.to_parquet(folder / f"{name}.parquet")
    files = {"data_files": {"test": str(folder / f"{name}.parquet")}, "cache_dir": str(folder / "cache")}
    task = {"task": name, "dataset_path": "parquet", "dataset_kwargs": files, "test_split": "test", **settings}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return str(folder)


def test_a_public_task_runs_and_its_accuracy_has_an_interval(tmp_path, model):
    """POPE's own prompts, scorer and metrics, on rows of ours."""
    from lmms_eval import tasks

    rows = [
        {"image": drawn_image(number), "question": "Is there a cup?", "answer": answer, "question_id": number}
        for number, answer in enumerate(["yes", "no", "yes"])
    ]
    pope = f"{tasks.__path__[0]}/pope/pope.yaml"
    folder = write_task(tmp_path / "tasks", "pope_ours", rows, include=pope)
    config = EvalConfig(tasks="pope_ours", include_path=folder)
    score = evaluate(config, scripted_model(lambda *_: "Yes")).score("pope_ours", "pope_accuracy")
    assert (score.value, score.interval, score.n) == (pytest.approx(2 / 3), "bootstrap", 3)
    assert evaluate(config, model).score("pope_ours", "pope_accuracy").value == 0  # a random model says neither


def test_given_answers_are_scored_by_their_likelihood(tmp_path, model):
    """The expected choice is found with transformers' own loss, one conversation at a time, without our batching."""
    choices = ["red circle", "blue square", "a green triangle and a yellow star"]
    rows, losses = [], []
    for number in range(3):
        image, question = drawn_image(number), f"What is tag {number}?"
        asked = [user(question, image)]
        template = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
        start = model.processor.apply_chat_template([asked], add_generation_prompt=True, **template)["input_ids"].shape[
            1
        ]
        losses.append([])
        for choice in choices:
            talk = [*asked, said(choice)]
            inputs = model.processor.apply_chat_template([talk], continue_final_message=True, **template)
            labels = inputs["input_ids"].clone()
            labels[:, :start] = -100
            with torch.no_grad():
                losses[-1].append(float(model.model(**inputs, labels=labels).loss))
        answer = min(range(3), key=losses[-1].__getitem__)
        rows.append({"image": image, "question": question, "choices": choices, "answer": answer})
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/fields.py").write_text("def image(doc):\n    return [doc['image']]\n")
    folder = write_task(
        tmp_path / "tasks",
        "choice",
        rows,
        output_type="multiple_choice",
        doc_to_text="question",
        doc_to_target="answer",
        doc_to_choice="choices",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    with open(f"{folder}/choice.yaml", "a") as task:
        task.write("doc_to_visual: !function fields.image\n")
    results = evaluate(EvalConfig(tasks="choice", include_path=folder, batch_size=4), model)
    assert results.score("choice", "acc").value == 1
    scored = [json.loads(sample.answer)[0] for sample in results.samples]
    assert scored == pytest.approx([row[0] for row in losses], abs=1e-5)
    assert results.run["decoding"] == {"choice": "likelihood of the given answers"}


def test_the_command_writes_a_report_resumes_from_the_cache_and_compares(data, model, tmp_path, monkeypatch, capsys):
    for part in (model.model, model.processor):
        part.save_pretrained(tmp_path / "model")
    argv = ["tasks=som_listing_tagged", f"data={data}", f"model={tmp_path / 'model'}", "max_new_tokens=12"]
    argv += [f"cache={tmp_path / 'cache'}", "device=cpu"]
    assert main([*argv, f"out={tmp_path / 'first'}"]) == 0

    def refuse(*args, **kwargs):
        raise AssertionError("the answers are in the cache")

    monkeypatch.setattr(Assistant, "answer", refuse)
    assert main([*argv, f"out={tmp_path / 'second'}", f"baseline={tmp_path / 'first'}"]) == 0
    assert "Change, document by document" in capsys.readouterr().out
    first, second = (Results.load(tmp_path / name) for name in ("first", "second"))
    assert first.samples == second.samples and first.run["model"] == str(tmp_path / "model")
    assert (tmp_path / "second/report.html").is_file()


@pytest.mark.parametrize("chat", [True, False])
def test_a_task_of_several_rounds_hears_the_answers_so_far(model, chat, monkeypatch):
    from eval.model import LlavaSomChat, LlavaSomSimple

    monkeypatch.setattr(model, "answer", lambda talks, **options: [talks[0][0]["content"][-1]["text"].upper()])
    told = []

    def following(document, previous_output, round_idx, previous_round_info):
        told.append((previous_output, round_idx, previous_round_info))
        turn = user(f"round {round_idx}") if chat else None
        done = round_idx == 2
        return ([turn], done, None, "info") if chat else ([], f"round {round_idx}", done, None, "info")

    def messages(document, **rounds):
        return following(document, **rounds) if rounds else [user("round 0")]

    place = (0, "task", "test")
    arguments = ("", messages, {}, *place) if chat else ("round 0", {}, lambda document: [], following, *place)
    adapter = (LlavaSomChat if chat else LlavaSomSimple)(assistant=model)
    adapter.task_dict["task"] = {"test": [{}]}
    assert adapter.generate_until_multi_round([SimpleNamespace(args=arguments)]) == [["ROUND 0", "ROUND 1"]]
    assert told == [(["ROUND 0"], 1, None), (["ROUND 0", "ROUND 1"], 2, "info")]


def test_stop_strings_end_an_answer(model, monkeypatch):
    from eval.model import LlavaSomChat

    monkeypatch.setattr(model, "answer", lambda talks, **options: ["yes\nbecause"] * len(talks))
    adapter = LlavaSomChat(assistant=model, batch_size=2)
    adapter.task_dict["task"] = {"test": [{}] * 3}
    requests = [
        SimpleNamespace(args=("x" * number, lambda document: [user("?")], {"until": stop}, number, "task", "test"))
        for number, stop in enumerate([["\n"], ["\n\n"], ["cause", "\n"]])
    ]
    assert adapter.generate_until(requests) == ["yes", "yes\nbecause", "yes"]


def test_lmms_eval_finds_the_model_by_its_entry_point():
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    from eval.manifest import MANIFEST

    registry = ModelRegistryV2()
    registry.register_manifest(MANIFEST)
    assert registry.get_model_class("llava_som").__name__ == "LlavaSomChat"
    assert registry.get_model_class("llava_som", force_simple=True).__name__ == "LlavaSomSimple"


def test_mistakes_in_names_and_data_are_told(data, model, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # lmms-eval waits before it tries again
    with pytest.raises(ValueError, match=r"Unknown task 'som_listing_taged'. Did you mean 'som_listing_tagged'"):
        evaluate(EvalConfig(tasks="som_listing_taged", data=str(data)), model)
    with pytest.raises(ValueError, match=r"add data=DIR/eval\.jsonl"):
        evaluate(EvalConfig(tasks="som_listing"), model)
    with pytest.raises(ValueError, match=r"'docdownstream_wtq' reads data of yours: add data=FOLDER, the one that"):
        evaluate(EvalConfig(tasks="docdownstream_wtq"), model)
    with pytest.raises(ValueError, match=r"none of the tasks pope reads data of yours"):
        evaluate(EvalConfig(tasks="pope", data=str(data)), model)
    rows = [json.loads(line) for line in data.open()]
    tagged_only = data.parent / "tagged_only.jsonl"
    tagged_only.write_text("".join(json.dumps(row | {"clean_image": None}) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"0\.png: its row has no clean_image\. Write the data with untagged=true"):
        evaluate(EvalConfig(tasks="som_listing", data=str(tagged_only)), model)
    with pytest.raises(ValueError, match=r"The data of pope cannot be read.*network connection"):
        evaluate(EvalConfig(tasks="pope"), model)
    with pytest.raises(ValueError, match="Add model=PATH"):
        evaluate(EvalConfig(tasks="som_listing", data=str(data)))


@pytest.mark.parametrize(
    ("stated", "options"),
    [
        ({"temperature": 0, "top_p": 1.0, "until": ["\n\n"]}, {"max_new_tokens": 1024}),
        ({"max_new_tokens": 16, "do_sample": False, "until": "\n", "image_aspect_ratio": "pad"},
         {"max_new_tokens": 16, "stop_strings": ["\n"]}),
        ({"temperature": 0.7, "top_p": 0.9},
         {"max_new_tokens": 1024, "do_sample": True, "temperature": 0.7, "top_p": 0.9}),
    ],
)  # fmt: skip
def test_generation_settings_of_tasks(stated, options):
    from eval.model import generation_options

    assert generation_options(stated) == options

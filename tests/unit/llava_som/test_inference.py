import re
from dataclasses import replace

import pytest
import torch

from llava_som import ACT, VAR
from llava_som.images import ImageError
from llava_som.inference import Assistant, answer, load_assistant
from llava_som.marks import Region, mark_image
from tests.decoders import tiny
from tests.tiny import drawn_image, tiny_model, user

OPTIONS = {"sink_dims": [3, 11, 17], "tau_rel": 0.25, "rho": 0.2, "image_mass": 0.05}


@pytest.fixture(scope="module")
def tiny_assistant():
    return Assistant(*tiny_model())


@pytest.fixture(scope="module")
def steerable():
    """Its attention is far from even, so that an intervention matters."""
    return Assistant(tiny("ours"), tiny_model()[1])


def test_a_ragged_batch_gives_the_single_answers(tiny_assistant):
    conversations = [
        [user("What is 1?", drawn_image(1))],
        [user("Hello")],
        [user("Compare these two pictures, please.", drawn_image(2), drawn_image(3))],
    ]
    together = tiny_assistant.answer(conversations, max_new_tokens=8)
    assert together == [tiny_assistant.answer([one], max_new_tokens=8)[0] for one in conversations]
    assert tiny_assistant.answer([]) == []


def test_answer_from_a_folder_equals_answer_from_memory(tiny_assistant, tmp_path):
    tiny_assistant.model.save_pretrained(tmp_path)
    tiny_assistant.processor.save_pretrained(tmp_path)
    drawn_image(4).save(tmp_path / "photo.png")
    from_files = answer(tmp_path / "photo.png", "What is 1?", model=tmp_path, max_new_tokens=8)
    assert from_files == answer(drawn_image(4), "What is 1?", model=tiny_assistant, max_new_tokens=8)
    assert load_assistant(tmp_path).model.dtype == torch.float32


def test_generation_leaves_the_training_mode_as_it_was(tiny_assistant):
    tiny_assistant.model.train()
    answer(None, "Hi", model=tiny_assistant, max_new_tokens=1)
    assert tiny_assistant.model.training
    tiny_assistant.model.eval()


def test_stop_strings_end_an_answer(tiny_assistant):
    text = answer(drawn_image(1), "What is 1?", model=tiny_assistant, max_new_tokens=20)
    stop = re.search("[a-z]{2}", text[1:])[0]  # half a character cannot be asked for
    stopped = answer(drawn_image(1), "What is 1?", model=tiny_assistant, max_new_tokens=20, stop_strings=[stop])
    assert len(stopped) < len(text)
    assert text.startswith(stopped)


def test_marks_are_drawn_before_the_question_is_asked(tiny_assistant, tmp_path):
    photo = drawn_image(1, (640, 640))
    marked = mark_image(photo, [Region.from_box((100, 100, 200, 200), photo.size)])
    sidecar = tmp_path / "photo.marks.json"
    marked.record.save(sidecar)
    expected = answer(marked.image, "What is 1?", model=tiny_assistant, max_new_tokens=8)
    assert answer(photo, "What is 1?", model=tiny_assistant, marks=sidecar, max_new_tokens=8) == expected
    with pytest.raises(ValueError, match="marks belong to one image, 0 were given"):
        answer(None, "What is 1?", model=tiny_assistant, marks=sidecar)


def test_a_missing_image_is_named(tiny_assistant):
    with pytest.raises(ImageError, match=r"nowhere\.jpg: no such file"):
        answer("nowhere.jpg", "What?", model=tiny_assistant)


def test_a_device_or_dtype_that_does_not_exist_is_said_before_anything_is_loaded(tmp_path):
    with pytest.raises(ValueError, match=r"device=gpu: cannot be used .* llava-som doctor"):
        load_assistant(tmp_path, device="gpu")
    with pytest.raises(ValueError, match="Did you mean 'float32'"):
        load_assistant(tmp_path, dtype="float31")


@pytest.mark.parametrize(
    ("given", "block"),
    [
        ({"type": "var", **OPTIONS}, VAR(**OPTIONS)),
        ([{"type": "var", **OPTIONS}, {"type": "act", "alpha": 1.5, "layers": [1, 2]}], None),
        (VAR(**OPTIONS) + ACT(alpha=1.5, layers=[1, 2]), None),
    ],
)
def test_an_assistant_answers_as_within_the_block(steerable, given, block):
    talks = [[user("What is 1?", drawn_image(1))], [user("And this thing here?", drawn_image(2))]]
    block = block or VAR(**OPTIONS) + ACT(alpha=1.5, layers=[1, 2])
    plain = steerable.answer(talks, max_new_tokens=8)
    with block.on(steerable.model):
        wanted = steerable.answer(talks, max_new_tokens=8)
    steered = replace(steerable, intervention=given)
    assert steered.answer(talks, max_new_tokens=8) == wanted != plain
    assert set(steered.run.changed) == {part.name for part in block.parts} and all(steered.run.changed.values())
    assert steerable.answer(talks, max_new_tokens=8) == plain and steerable.run is None


def test_one_question_with_an_intervention(steerable, tmp_path):
    for part in (steerable.model, steerable.processor):
        part.save_pretrained(tmp_path)
    steered = {"type": "var", **OPTIONS}
    question = {"image": drawn_image(1), "question": "What is 1?", "max_new_tokens": 8}
    wanted = answer(**question, model=steerable, intervention=steered)
    assert wanted == answer(**question, model=tmp_path, intervention=steered) != answer(**question, model=steerable)
    loaded = load_assistant(tmp_path, intervention=VAR(**OPTIONS))
    assert answer(**question, model=loaded) == wanted
    assert answer(**question, model=loaded, intervention="none") == answer(**question, model=steerable)


def test_what_depends_on_the_model_is_filled_in_once(steerable, monkeypatch):
    given, bound = [], VAR.bound
    monkeypatch.setattr(VAR, "bound", lambda self, decoder: given.append(self.sink_dims) or bound(self, decoder))
    monkeypatch.setattr("llava_som.attention.var.resolved_dims", lambda dims, *_, **__: dims or OPTIONS["sink_dims"])
    steerable.model.train()
    assistant = replace(steerable, intervention=VAR(**OPTIONS | {"sink_dims": None}))
    assert steerable.model.training
    steerable.model.eval()
    assistant.answer([[user("What is 1?", drawn_image(1))]], max_new_tokens=1)
    assert given == [None, OPTIONS["sink_dims"]]


def test_a_wrong_intervention_is_said_when_the_assistant_is_loaded(steerable, tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=r"Unknown intervention 'vra'\. Did you mean 'var'"):
        load_assistant(nowhere, intervention="vra")
    with pytest.raises(ValueError, match=r"Unknown option 'roh'\. Did you mean 'rho'"):
        load_assistant(nowhere, intervention=[{"type": "var", "roh": 0.5}])
    for part in (steerable.model, steerable.processor):
        part.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"No sink dimensions are known for 'llama' .* sink_dims="):
        load_assistant(tmp_path, intervention={"type": "var", "tau_rel": 0.25})
    with pytest.raises(ValueError, match=r"layers=\[9\]: this decoder has 4 layers"):
        Assistant(steerable.model, steerable.processor, {"type": "act", "layers": [9]})

import re

import pytest
import torch

from llava_som.images import ImageError
from llava_som.inference import Assistant, answer, load_assistant
from llava_som.marks import Region, mark_image
from tests.tiny import drawn_image, tiny_model, user


@pytest.fixture(scope="module")
def tiny_assistant():
    return Assistant(*tiny_model())


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

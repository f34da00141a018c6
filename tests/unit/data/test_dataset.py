import logging

import pytest
import torch

from llava_som.data.collator import Collator
from llava_som.data.dataset import IGNORE_INDEX, ConversationDataset
from llava_som.data.sources import DataFile
from llava_som.data.trained_text import IMAGE, TRAINED, render_trained_text
from llava_som.quarantine import Quarantine
from tests.tiny import tiny_model
from tests.unit.data.scene_records import ANSWERS, scene, text_only, write_data

TWO_TURNS = {
    "id": "two-turns",
    "image": ["0.png", "1.png"],
    "conversations": [
        {"from": "human", "value": "<image>\n<image>\nWhat is tag 1?"},
        {"from": "gpt", "value": "A red circle: [1]."},
        {"from": "human", "value": "And tag 2?"},
        {"from": "gpt", "value": "ASSISTANT: USER: a blue square"},
    ],
}
END = {"vicuna": "</s>", "chatml": "<|im_end|>", "llama3": "<|eot_id|>"}


@pytest.fixture
def make_dataset(tmp_path):
    def make(records, max_length=512, chat_template="vicuna"):
        file = write_data(tmp_path, records)
        _, processor = tiny_model(chat_template=chat_template)
        quarantine = Quarantine(tmp_path / "quarantine.jsonl")
        return ConversationDataset([DataFile(str(file))], processor, max_length, quarantine)

    return make


def answers(row, tokenizer):
    """The trained tokens of one row, decoded, one text for each unbroken run."""
    runs, previous = [], IGNORE_INDEX
    for label in row:
        if label != IGNORE_INDEX:
            runs = [*runs, [label]] if previous == IGNORE_INDEX else [*runs[:-1], [*runs[-1], label]]
        previous = label
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("chat_template", list(END))
def test_exactly_the_answers_are_trained(make_dataset, chat_template, padding_side):
    dataset = make_dataset([scene(0), scene(1), TWO_TURNS, text_only(3)], chat_template=chat_template)
    tokenizer = dataset.processor.tokenizer
    batch = Collator(tokenizer.pad_token_id, padding_side)([dataset[number] for number in range(4)])
    space, end = " " if chat_template == "vicuna" else "", END[chat_template]
    expected = [[ANSWERS[0]], [ANSWERS[1]], ["A red circle: [1].", "ASSISTANT: USER: a blue square"], ["3. cross"]]
    assert [answers(row, tokenizer) for row in batch["labels"].tolist()] == [
        [f"{space}{answer}{end}" for answer in row] for row in expected
    ]
    assert batch["sample_ids"] == ["scene-0", "scene-1", "two-turns", "text-3"]
    assert batch["pixel_values"].shape == (4, 3, 32, 32)
    trained = batch["labels"] != IGNORE_INDEX
    assert torch.equal(batch["labels"][trained], batch["input_ids"][trained])
    assert not trained[batch["attention_mask"] == 0].any()


def test_the_model_takes_the_batch_and_padding_does_not_change_its_loss(make_dataset):
    dataset = make_dataset([scene(0), text_only(1)])
    model, processor = tiny_model()
    losses = []
    for side in ("right", "left"):
        batch = Collator(processor.tokenizer.pad_token_id, side)([dataset[0], dataset[1]])
        batch.pop("sample_ids")
        losses.append(model(**batch).loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_batch_without_images_has_none():
    samples = [{"sample_id": "a", "input_ids": [1, 2], "labels": [-100, 2], "pixel_values": None}]
    assert Collator(0)(samples)["pixel_values"] is None


def test_a_bad_record_is_set_aside_and_the_next_usable_one_takes_its_place(make_dataset, tmp_path, caplog):
    long = text_only(1) | {
        "id": "long",
        "conversations": [*text_only(1)["conversations"][:1], {"from": "gpt", "value": "ha" * 999}],
    }
    outside = scene(2) | {"id": "outside", "image": "../secret.png"}
    missing = scene(3) | {"id": "missing", "image": "gone.png"}
    corrupt = scene(4) | {"id": "corrupt", "image": "corrupt.png"}
    counts = scene(5) | {"id": "counts", "image": ["1.png", "2.png"]}
    dataset = make_dataset([scene(0), long, outside, missing, corrupt, counts], max_length=200)
    (tmp_path / "corrupt.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    with caplog.at_level(logging.WARNING):
        assert [dataset[number]["sample_id"] for number in range(6)] == ["scene-0"] * 6
    assert "gone.png: no such file" in caplog.text
    assert dataset.quarantine.ids == {"long", "outside", "missing", "corrupt", "counts"}
    reasons = dataset.quarantine.path.read_text()
    for said in (
        "max_length is 200",
        "outside the image root",
        "gone.png",
        "corrupt.png",
        "1 <image>, the record names 2",
    ):
        assert said in reasons


def test_no_usable_record_is_an_error_that_says_where_the_reasons_are(make_dataset, tmp_path):
    dataset = make_dataset([scene(0) | {"image": "gone.png"}])
    with pytest.raises(ValueError, match=r"None of the 1 records is usable.*quarantine\.jsonl"):
        dataset[0]
    with pytest.raises(ValueError, match="No record"):
        make_dataset([])


def test_lengths_are_estimated_without_opening_an_image(make_dataset, tmp_path):
    dataset = make_dataset([text_only(0), scene(0), TWO_TURNS, scene(1) | {"conversations": []}])
    for image in tmp_path.glob("*.png"):
        image.unlink()
    text, one_image, two_images, _ = dataset.estimated_lengths()
    assert text < one_image < two_images


def test_rendering_colours_the_trained_part_and_folds_the_image(make_dataset):
    dataset = make_dataset([scene(0)])
    sample, tokenizer = dataset[0], dataset.processor.tokenizer
    text = render_trained_text(sample["input_ids"], sample["labels"], tokenizer, dataset.processor.image_token_id)
    styled = {span.style: text.plain[span.start : span.end] for span in text.spans}
    assert styled[TRAINED] == f" {ANSWERS[0]}</s>"
    assert styled[IMAGE] == "[16 image tokens]"

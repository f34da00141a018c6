import pytest
import torch

from llava_som.pruning.sequence import Shortening
from tests.tiny import assistant, drawn_image, tiny_model, user

DROPS = {"type": "uniform_stride", "keep_ratio": 0.25, "min_tokens": 1}
SAMPLES = [
    [user("What is tag 1?", drawn_image(1, (60, 30))), assistant("A red circle.")],
    [user("Which one is larger?", drawn_image(2), drawn_image(3)), assistant("The second.")],
    [user("Hello, who are you?"), assistant("An assistant.")],
]


def encode(processor, *conversations):
    return processor.apply_chat_template(
        list(conversations), tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs={"padding": True}
    )


def test_positions_close_up_within_each_sample_of_a_row():
    keep = torch.tensor([[1, 0, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 0, 1]], dtype=torch.bool)
    given = torch.tensor([[0, 1, 2, 3, 0, 1, 2], [7, 8, 9, 0, 1, 2, 3]])
    right = Shortening.of(keep, "right").positions(given)
    assert right.tolist() == [[0, 1, 0, 1, 0], [7, 8, 0, 1, 2]]
    assert Shortening.of(keep, "left").positions(given).tolist() == [[0, 0, 1, 0, 1], [7, 8, 0, 1, 2]]


@pytest.mark.parametrize("padding", [0, 1, -1])
@torch.no_grad()
def test_positions_do_not_depend_on_those_of_padding(padding):
    model, processor = tiny_model(decoder="opt", tiling="grid_4", pruning=DROPS)  # learned, absolute positions
    inputs = encode(processor, *SAMPLES[:2])
    is_token = inputs["attention_mask"].bool()
    assert not is_token[:, 0].all()  # padded on the left
    expected = model.encode_prompt(**inputs)
    positions = (inputs["attention_mask"].cumsum(dim=1) - 1).masked_fill(~is_token, padding)
    found = model.encode_prompt(**inputs, position_ids=positions).position_ids
    assert torch.equal(found, (expected.attention_mask.cumsum(dim=1) - 1).clamp(min=0))
    later = model.encode_prompt(**inputs, position_ids=positions + 100).position_ids
    assert torch.equal(later, torch.where(expected.attention_mask.bool(), found + 100, 0))


@pytest.mark.parametrize("pruning", [None, DROPS], ids=["whole", "pruned"])
@torch.no_grad()
def test_samples_packed_into_a_row_do_not_see_each_other(pruning):
    model, processor = tiny_model(tiling="grid_4", pruning=pruning)
    alone = [encode(processor, sample) for sample in SAMPLES]
    expected = [model(**inputs).logits[0] for inputs in alone]
    images = {
        key: torch.cat([inputs[key] for inputs in alone if key in inputs]) for key in ("pixel_values", "image_grids")
    }
    ids = torch.cat([inputs["input_ids"] for inputs in alone], dim=1)
    positions = torch.cat([torch.arange(inputs["input_ids"].shape[1]) for inputs in alone])[None]
    labels = ids.where(ids != model.config.image_token_id, -100)
    output = model(ids, **images, position_ids=positions, labels=labels, use_cache=False)
    torch.testing.assert_close(output.logits[0], torch.cat(expected), atol=1e-5, rtol=0)
    swapped = model(ids, **images, position_ids=torch.arange(ids.shape[1])[None], use_cache=False)
    assert (swapped.logits[0] - torch.cat(expected)).abs().max() > 1e-3


@torch.no_grad()
def test_rows_that_are_packed_with_pages_of_unlike_length_are_told_apart_from_their_filling():
    model, processor = tiny_model(tiling="grid_4", pruning=DROPS)
    first, second, text = (encode(processor, sample) for sample in SAMPLES)
    rows, lengths = (first, second), [inputs["input_ids"].shape[1] for inputs in (first, second)]
    fill = max(lengths) - torch.tensor(lengths)
    filling = text["input_ids"].repeat(1, 20)
    ids = torch.cat(
        [torch.cat([inputs["input_ids"], filling[:, : more + 5]], 1) for inputs, more in zip(rows, fill, strict=True)]
    )
    positions = torch.stack(
        [torch.cat([torch.arange(n), torch.arange(more + 5)]) for n, more in zip(lengths, fill, strict=True)]
    )
    images = {key: torch.cat([first[key], second[key]]) for key in ("pixel_values", "image_grids")}
    logits = model(ids, **images, position_ids=positions, use_cache=False).logits
    for row, inputs in enumerate(rows):
        alone = model(**inputs).logits[0]
        torch.testing.assert_close(logits[row, : len(alone)], alone, atol=1e-5, rtol=0)

import pytest
import torch
from PIL import Image

from llava_som import page_encoder
from llava_som.page_encoder import encode_pages, pages_in_runs
from llava_som.tiling import TileGrid
from tests.tiny import drawn_image, tiny_model

PAGES = [
    drawn_image(1, (90, 30)),
    drawn_image(2, (30, 30)),
    Image.new("RGB", (60, 60), "white"),
    drawn_image(3, (30, 90)),
]
PRUNERS = [None, {"type": "random", "apply_to": "all", "min_tokens": 2}, {"type": "blank_patch", "min_tokens": 1}]
PRUNERS += [{"type": "hired", "keep_ratio": 0.3, "min_tokens": 1}, {"type": "token_correlation", "min_tokens": 3}]


def encoded(model, processor, pages=PAGES):
    """Tokens of pages, and how many tiles the encoder was given in each call."""
    inputs, seen = processor.image_processor(pages, return_tensors="pt"), []
    grids = [TileGrid(rows, cols) for rows, cols in inputs["image_grids"].tolist()]
    hook = model.vision_tower.register_forward_pre_hook(
        lambda module, args, given: seen.append(len(given["pixel_values"])), with_kwargs=True
    )
    tokens = encode_pages(model, inputs["pixel_values"], grids)
    hook.remove()
    return tokens, seen


@pytest.mark.parametrize(("projector", "compressor"), [("h_reducer", "doc_compressor"), ("mlp2x_gelu", "none")])
@pytest.mark.parametrize("pruning", PRUNERS, ids=lambda pruning: pruning and pruning["type"])
@torch.no_grad()
def test_pages_in_several_runs_are_the_pages_of_one(monkeypatch, projector, compressor, pruning):
    model, processor = tiny_model(projector=projector, compressor=compressor, tiling="grid_4", pruning=pruning)
    once, tiles = encoded(model, processor)
    assert tiles == [4 + 2 + 5 + 4]
    monkeypatch.setattr(page_encoder, "TILES_AT_ONCE", 6)
    several, tiles = encoded(model, processor)
    assert tiles == [4 + 2, 5, 4]
    torch.testing.assert_close(several.features, once.features, atol=1e-5, rtol=0)
    assert (several.keep is None) == (once.keep is None)
    if pruning is not None:
        assert torch.equal(several.keep, once.keep)
        assert torch.equal(several.choice.keep, once.choice.keep)
        assert several.choice.scores.shape == once.choice.scores.shape


def test_in_training_and_where_ranks_gather_weights_all_tiles_go_in_one_run(monkeypatch):
    monkeypatch.setattr(page_encoder, "TILES_AT_ONCE", 4)
    model, processor = tiny_model(tiling="grid_4")
    assert encoded(model, processor)[1] == [15]
    model._is_fsdp_managed_module = True  # as FSDP marks it
    with torch.no_grad():
        assert encoded(model, processor)[1] == [15]
    del model._is_fsdp_managed_module
    monkeypatch.setattr(page_encoder, "is_deepspeed_zero3_enabled", lambda: True)
    with torch.no_grad():
        assert encoded(model, processor)[1] == [15]


def test_a_page_larger_than_a_run_is_alone():
    pages = [TileGrid(1, 1), TileGrid(3, 4), TileGrid(1, 1), TileGrid(1, 2), TileGrid(2, 2)]
    assert list(pages_in_runs(pages, 5)) == [pages[:1], pages[1:2], pages[2:4], pages[4:]]
    assert list(pages_in_runs(pages, 99)) == [pages]


@torch.no_grad()
def test_two_hundred_pages_in_one_call_are_read_some_at_a_time():
    model, processor = tiny_model(projector="h_reducer", compressor="group_mean", tiling="grid_9")
    tokens, tiles = encoded(model, processor, [drawn_image(number, (40, 60)) for number in range(200)])
    assert len(tokens.features) == 200 * 4
    assert sum(tiles) == 200 * 7
    assert max(tiles) <= page_encoder.TILES_AT_ONCE


def test_another_number_of_tiles_than_the_grids_have_names_both():
    model, _ = tiny_model(tiling="grid_4")
    with pytest.raises(ValueError, match=r"holds 3 tiles, image_grids asks for 2.* as the processor made them"):
        encode_pages(model, torch.zeros(3, 3, 32, 32), [TileGrid(1, 1)])

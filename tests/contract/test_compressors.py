"""Every registered compressor keeps the promises the processor and the trainer rely on."""

import pytest
import torch

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import ProjectedTiles
from llava_som.tiling import TileGrid
from tests.tiny import assistant, drawn_image, tiny_model, user

GRID, WIDTH = (4, 2), 32
PAGES = [TileGrid(1, 1), TileGrid(2, 3), TileGrid(3, 1)]


@pytest.fixture(params=COMPRESSORS.names())
def name(request):
    return request.param


def projected(pages=PAGES, special=0, seed=0):
    torch.manual_seed(seed)
    return ProjectedTiles(torch.randn(sum(p.num_tiles for p in pages), 8 + special, WIDTH), pages, GRID)


def build(name):
    torch.manual_seed(1)
    return COMPRESSORS.get(name)(WIDTH).eval()


@pytest.mark.parametrize("special", [0, 1])
def test_span_lengths_are_the_real_length(name, special):
    tokens, keep = build(name)(projected(special=special))
    lengths = [sum(COMPRESSORS.get(name).span_lengths(page, GRID, special)) for page in PAGES]
    assert tokens.shape == (sum(lengths), WIDTH)
    assert keep is None


def test_pages_packed_into_one_call_equal_pages_alone(name):
    compressor, tiles = build(name), projected()
    packed, _ = compressor(tiles)
    ends = torch.tensor([page.num_tiles for page in PAGES]).cumsum(0).tolist()
    for page, start, end in zip(PAGES, [0, *ends], ends, strict=False):
        length = sum(COMPRESSORS.get(name).span_lengths(page, GRID, 0))
        alone, _ = compressor(ProjectedTiles(tiles.tokens[start:end], [page], GRID))
        torch.testing.assert_close(packed[:length], alone, atol=1e-5, rtol=0)
        packed = packed[length:]


def test_every_parameter_and_every_tile_gets_a_gradient(name):
    compressor, tiles = build(name), projected()
    tiles.tokens.requires_grad_()
    compressor(tiles)[0].square().sum().backward()
    for key, parameter in compressor.named_parameters():
        if not key.endswith("k_proj.bias"):  # a constant added to every key changes no softmax
            assert parameter.grad.abs().sum() > 0, key
    has_choice = torch.tensor([page.num_crops > 1 for page in PAGES for _ in range(page.num_tiles)])
    assert tiles.tokens.grad[has_choice].abs().sum(dim=(1, 2)).min() > 0


def test_what_is_kept_of_the_tiles_is_kept_of_the_page(name):
    tiles = projected()
    keep = torch.rand(tiles.tokens.shape[:2], generator=torch.Generator().manual_seed(3)) < 0.6
    tokens, kept = build(name)(ProjectedTiles(tiles.tokens, PAGES, GRID, keep))
    assert kept.shape == tokens.shape[:1]
    assert tokens.isfinite().all()
    everything, _ = build(name)(ProjectedTiles(tiles.tokens, PAGES, GRID, torch.ones_like(keep)))
    torch.testing.assert_close(everything, build(name)(tiles)[0], atol=1e-6, rtol=0)


def test_it_works_in_bfloat16(name):
    compressor, tiles = build(name), projected()
    expected, _ = compressor(tiles)
    half, _ = compressor.bfloat16()(ProjectedTiles(tiles.tokens.bfloat16(), PAGES, GRID))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0.1)


def test_in_a_model_it_trains_saves_and_loads(name, tmp_path):
    from llava_som.auto import LlavaSomForConditionalGeneration

    model, processor = tiny_model(projector="h_reducer", compressor=name, tiling="grid_4")
    model.save_pretrained(tmp_path)
    conversation = [user("?", drawn_image(1, (50, 90)), drawn_image(2, (40, 40))), assistant("A page.")]
    inputs = processor.apply_chat_template([conversation], tokenize=True, return_dict=True, return_tensors="pt")
    loaded = LlavaSomForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    for part in (model.multi_modal_projector, model.compressor, model.vision_tower.encoder.layers[0]):
        for key, parameter in part.named_parameters():
            assert parameter.grad.isfinite().all(), key

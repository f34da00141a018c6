import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaImageProcessor, SiglipImageProcessor

from llava_som.inference import Assistant
from llava_som.page_readers import ModelReader, PixelReader, seen_area
from llava_som.tiling import Tiling
from tests.tiny import tiny_model, user

H_REDUCER = {"type": "h_reducer", "kernel": "1x2", "eos": True}
RANDOM = {"type": "random", "min_tokens": 2, "keep_ratio": 0.3}


def page(size=(90, 120)):
    """Paper with a block of noise at the top left."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1] // 2, size[0] // 2, 3), dtype=np.uint8)
    image = Image.new("RGB", size, "white")
    image.paste(Image.fromarray(noise), (0, 0))
    return image


def prompt_length(model, processor, image):
    """Tokens that the decoder sees of an image, and how many placeholders it has in the prompt."""
    inputs = processor.apply_chat_template(
        [[user("What is it?", image)]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    placeholders = int((inputs["input_ids"] == model.config.image_token_id).sum())
    with torch.inference_mode():
        logits = model(**inputs).logits
    return logits.shape[1] - (inputs["input_ids"].shape[1] - placeholders), placeholders


@pytest.mark.parametrize(
    "options",
    [
        {"pruning": {**RANDOM}},
        {"pruning": {"type": "blank_patch", "min_tokens": 1}, "projector": H_REDUCER, "tiling": "grid_9"},
        {"pruning": {**RANDOM, "placement": "pre_v2t", "apply_to": "all"}, "projector": H_REDUCER, "tiling": "grid_9"},
        {"pruning": {**RANDOM, "placement": "post_v2t"}, "projector": H_REDUCER, "tiling": "grid_9"},
        {
            "pruning": {**RANDOM, "apply_to": "all"},
            "projector": H_REDUCER,
            "tiling": "grid_9",
            "compressor": "group_mean",
        },
    ],
    ids=["one tile", "windows", "regrouped", "behind the projector", "compressed"],
)
def test_the_counts_are_those_of_the_decoders_prompt(options):
    model, processor = tiny_model(**options)
    tokens = ModelReader(Assistant(model, processor)).read(page())
    assert (tokens.after, tokens.before) == prompt_length(model, processor, page())
    assert tokens.after < tokens.before
    if tokens.compressor == "none":
        assert tokens.tile_tokens == (tokens.before, tokens.after)


def test_pixels_alone_give_what_a_model_of_these_sizes_gives():
    pruning = {"type": "blank_patch", "min_tokens": 1}
    model = ModelReader(Assistant(*tiny_model(pruning=pruning, projector=H_REDUCER, tiling="grid_9")))
    pixels = PixelReader(Tiling.parse("grid_9"), 32, 8, H_REDUCER, pruning)
    one, other = model.read(page()), pixels.read(page())
    assert (one.before, one.after, one.page) == (other.before, other.after, other.page)
    for tile, same in zip(one.tiles, other.tiles, strict=True):
        assert np.array_equal(tile.keep, same.keep)
        assert (tile.place, tile.before, tile.after, tile.density) == (
            same.place,
            same.before,
            same.after,
            same.density,
        )


def test_kept_units_lie_where_the_ink_is():
    tokens = PixelReader(pruning={"type": "blank_patch", "min_tokens": 1}).read(page((448, 448)))
    whole, crop = tokens.tiles
    assert whole.keep.all()  # the global tile is spared
    assert np.array_equal(crop.keep, np.pad(np.ones((16, 4), bool), ((0, 16), (0, 4))))
    assert (crop.before, crop.after, crop.density) == (256, 64, 0.25)


def test_tiles_alone_drop_nothing_and_need_no_pruner():
    for reader in (PixelReader(), ModelReader(Assistant(*tiny_model(tiling="grid_4")), prunes=False)):
        tokens = reader.read(page())
        assert tokens.before == tokens.after and tokens.pruner is None
        assert all(tile.keep.all() for tile in tokens.tiles)


@pytest.mark.parametrize("size", [(50, 90), (97, 60)])
@pytest.mark.parametrize(
    "processor",
    [
        LlavaImageProcessor(do_pad=True, do_center_crop=False, size={"height": 32, "width": 32}),
        CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 32, "width": 32}),
        SiglipImageProcessor(size={"height": 32, "width": 32}),
    ],
    ids=["padded", "cut", "stretched"],
)
def test_the_seen_area_is_what_the_image_processor_takes(processor, size):
    """A colour ramp names its own place: what each pixel of the tile shows is where the area says it is."""
    across, down = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    ramp = np.stack([2 * across, 2 * down, np.full_like(down, 255)], axis=2).round().astype(np.uint8)
    tile = processor([Image.fromarray(ramp)], return_tensors="pt", do_normalize=False)["pixel_values"][0] * 127.5
    left, top, right, bottom = seen_area(processor, *size)
    for row, col in [(12, 12), (16, 20), (19, 13)]:
        assert float(tile[0, row, col]) == pytest.approx(left + (col + 0.5) / 32 * (right - left), abs=1.5)
        assert float(tile[1, row, col]) == pytest.approx(top + (row + 0.5) / 32 * (bottom - top), abs=1.5)


def test_pruners_that_a_page_alone_does_not_show_are_refused():
    for pruning, message in [
        ("token_correlation", "Name a checkpoint with --model"),
        ("fastv", "inside the decoder"),
        ("none", "Nothing is dropped by this model"),
        ("randm", "Did you mean 'random'"),
    ]:
        with pytest.raises(ValueError, match=message):
            PixelReader(pruning=pruning)
    fastv = {"type": "fastv", "layer": 1}  # of two
    for options, message in [({}, "Nothing is dropped by this model"), ({"pruning": fastv}, "inside the decoder")]:
        with pytest.raises(ValueError, match=message):
            ModelReader(Assistant(*tiny_model(**options)))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="patch_size=449"):
        PixelReader(patch_size=449)
    with pytest.raises(ValueError, match="do not fill"):
        PixelReader(projector={"type": "h_reducer", "kernel": "1x5"})


def test_a_pruner_that_needs_features_is_found_out(monkeypatch):
    from llava_som.pruning.base import Choice
    from llava_som.pruning.random import RandomPruner

    def by_norm(self, view):
        scores = view.features.norm(dim=-1)
        return Choice(self.highest(scores), view.features, scores)

    monkeypatch.setattr(RandomPruner, "choose", by_norm)
    with pytest.raises(ValueError, match="by the features"):
        PixelReader(pruning="random").read(page())

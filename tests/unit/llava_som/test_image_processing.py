import numpy as np
import pytest
import torch
from PIL import Image

from llava_som.auto import LlavaSomProcessor
from llava_som.image_processing import LlavaSomImageProcessor
from llava_som.tiling import TileGrid
from tests.tiny import drawn_image, tiny_model, user

TILED = {"grids": "grid_4", "tile_markers": True, "page_markers": True}


def pages(*sizes):
    return [drawn_image(seed, size) for seed, size in enumerate(sizes)]


def encode(processor, *conversations):
    inputs = processor.apply_chat_template(list(conversations), tokenize=True, return_dict=True)
    return inputs, [processor.tokenizer.decode(ids) for ids in inputs["input_ids"]]


def test_tiles_hold_the_pixels_of_their_places():
    side, mean, std = 8, [0.5, 0.25, 0.1], [0.2, 0.3, 0.4]
    page = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 50, 3), dtype=np.uint8))
    found = LlavaSomImageProcessor(side, {"grids": "grid_2x3"}, mean, std)(page, return_tensors="pt")
    assert found["image_grids"].tolist() == [[2, 3]]
    assert found["pixel_values"].shape == (7, 3, side, side)
    pixels = [np.asarray(page.resize(size, Image.Resampling.BICUBIC)) for size in [(side, side), (3 * side, 2 * side)]]
    for tile, (place, source) in zip(
        found["pixel_values"],
        [((0, 0), pixels[0]), *(((r, c), pixels[1]) for r in range(2) for c in range(3))],
        strict=True,
    ):
        cut = source[place[0] * side :, place[1] * side :][:side, :side]
        expected = (cut / 255 - np.array(mean)) / np.array(std)
        np.testing.assert_allclose(tile.permute(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize(
    "image", [Image.new("L", (9, 9), 80), Image.new("RGBA", (9, 9)), np.zeros((9, 9, 3), np.uint8)]
)
def test_any_kind_of_image_is_read_as_rgb(image):
    assert LlavaSomImageProcessor(8)(image, return_tensors="pt")["pixel_values"].shape == (2, 3, 8, 8)


def test_what_is_transparent_is_paper_and_samples_of_16_bits_keep_their_contrast():
    processor = LlavaSomImageProcessor(8, image_mean=[0, 0, 0], image_std=[1, 1, 1])
    clear = processor(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), return_tensors="pt")["pixel_values"]
    assert clear.min() == 1
    grey = Image.fromarray(np.full((9, 9), 0x8080, np.uint16))
    torch.testing.assert_close(processor(grey, return_tensors="pt")["pixel_values"].mean(), torch.tensor(128 / 255))


def test_what_one_call_cannot_change_is_refused():
    with pytest.raises(ValueError, match=r"do_resize=False: pages are always cut .* Leave it out"):
        LlavaSomImageProcessor(8)(drawn_image(), do_resize=False)


def test_a_page_takes_the_placeholders_of_its_tiles_with_their_markers():
    _, processor = tiny_model(projector={"type": "h_reducer", "eos": True}, tiling=TILED)
    inputs, (text,) = encode(processor, [user("?", *pages((60, 120), (40, 40)))])
    tile = "<image>" * 5
    assert (
        f"<img 1><global_img>{tile}<crop_img_row0_col0>{tile}<crop_img_row1_col0>{tile}\n<img 2><global_img>{tile}"
        in text
    )
    assert inputs["image_grids"].tolist() == [[2, 1], [1, 1]]
    assert inputs["input_ids"][0].count(processor.image_token_id) == 5 * 5


def test_pages_are_numbered_anew_in_each_conversation_of_a_batch():
    _, processor = tiny_model(tiling=TILED)
    _, texts = encode(processor, [user("?", *pages((9, 9), (9, 9)))], [user("!")], [user("?", *pages((9, 9)))])
    assert [[f"<img {n}>" in text for n in (1, 2)] for text in texts] == [[True, True], [False, False], [True, False]]


def test_a_compressed_page_is_one_stretch_whatever_its_grid():
    model, processor = tiny_model(compressor={"type": "group_mean", "eos": True}, tiling=TILED)
    _, (text,) = encode(processor, [user("?", *pages((60, 120)))])
    assert "<img 1>" + "<image>" * 17 + "\n" in text
    assert model.config.token_count.span_lengths(TileGrid(2, 1)) == [17]


def test_the_processor_is_saved_and_loaded_with_its_tiling(tmp_path):
    from transformers import AutoProcessor

    _, processor = tiny_model(tiling=TILED)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is LlavaSomProcessor
    conversation = [user("?", *pages((60, 120), (90, 30)))]
    first, second = encode(processor, conversation)[0], encode(loaded, conversation)[0]
    assert first["input_ids"] == second["input_ids"]
    assert all(torch.equal(a, b) for a, b in zip(first["pixel_values"], second["pixel_values"], strict=True))


def test_serving_engines_learn_the_count_from_the_size():
    model, processor = tiny_model(tiling="grid_4")
    counts = processor._get_num_multimodal_tokens([(120, 60), (40, 40)])  # height, width
    assert counts.num_image_tokens == [sum(model.config.token_count.span_lengths(TileGrid(2, 1))), 32]
    assert counts.num_image_patches == [3, 2]


def test_a_page_of_one_pixel_and_a_strip_are_read():
    model, processor = tiny_model(tiling="grid_9")
    inputs = processor.apply_chat_template(
        [[user("?", *pages((1, 1), (20_000, 100)))]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["image_grids"].tolist() == [[1, 1], [1, 9]]
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_more_pages_than_the_decoder_takes_is_an_error_that_says_what_lowers_it():
    model, processor = tiny_model(tiling="grid_9")
    inputs = processor.apply_chat_template(
        [[user("?", *pages(*[(30, 30)] * 20))]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    with pytest.raises(ValueError, match=r"640 image tokens.*takes 512.*tiling.grids.*compressor=.*pruning="):
        model.generate(**inputs, max_new_tokens=2)
    with pytest.raises(ValueError, match="takes 512"):
        model.vision_tower = None  # it is said before anything is encoded
        model(**inputs)
    model, _ = tiny_model(tiling="grid_9", pruning={"type": "random", "keep_ratio": 0.9, "min_tokens": 1})
    with pytest.raises(ValueError, match=r"620 image tokens.*takes 512"):
        model(**inputs)
    model.set_pruning({"type": "random", "keep_ratio": 0.1, "min_tokens": 1, "apply_to": "all"})
    assert model(**inputs).logits.shape[1] < 512

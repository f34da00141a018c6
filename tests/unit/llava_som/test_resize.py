import pytest
import torch
from transformers import AutoModel

from llava_som.assembly import assemble
from llava_som.auto import LlavaSomForConditionalGeneration
from llava_som.vision.resize import resize_image
from tests.tiny import DECODERS, VISION, tiny_tokenizer


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_resized_tower_gives_what_transformers_interpolates_at_every_call(kind, tmp_path):
    config = {**VISION[kind]}
    model, _ = assemble(config, DECODERS["llama"], tokenizer=tiny_tokenizer())
    tower, image = model.vision_tower.eval(), torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        expected = tower(image, interpolate_pos_encoding=True).last_hidden_state
        resize_image(tower, 48)
        torch.testing.assert_close(tower(image).last_hidden_state, expected, atol=1e-5, rtol=0)
        tower.save_pretrained(tmp_path)
        loaded = AutoModel.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(loaded(image).last_hidden_state, expected, atol=1e-5, rtol=0)


def test_a_model_is_assembled_at_the_size_and_loads_again(tmp_path):
    model, processor = assemble(
        VISION["clip"], DECODERS["llama"], tokenizer=tiny_tokenizer(), vision_image_size=64, tiling="grid_4"
    )
    assert model.config.token_grid.rows == 8
    assert processor.image_processor.tile_size == 64
    model.save_pretrained(tmp_path)
    assert LlavaSomForConditionalGeneration.from_pretrained(tmp_path).config.vision_config.image_size == 64


@pytest.mark.parametrize(
    ("kind", "size", "message"), [("clip", 50, "multiple of the patch size, 8"), ("dinov2", 64, "CLIP and SigLIP have")]
)
def test_what_cannot_be_resized_is_said(kind, size, message):
    with pytest.raises(ValueError, match=message):
        assemble(VISION[kind], DECODERS["llama"], tokenizer=tiny_tokenizer(), vision_image_size=size)

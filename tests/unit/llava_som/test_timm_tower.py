"""timm towers of every family, cut at stride 16: the grid is the promised one and a saved tower comes back whole."""

import pytest
import torch
from transformers import AutoModel

from llava_som.vision.features import encode_images
from llava_som.vision.grid import token_grid
from llava_som.vision.timm import TimmTower, TimmTowerConfig

FAMILIES = {  # architecture: image size; the smallest of each family
    "convnext_atto": 64,
    "ecaresnet26t": 64,
    "mambaout_femto": 64,
    "halonet26t": 256,
    "focalnet_tiny_srf": 64,
    "davit_tiny": 64,
    "volo_d1_224": 224,
    "vit_tiny_patch16_224": 64,
}


@pytest.mark.parametrize(("architecture", "size"), FAMILIES.items())
def test_every_family_gives_its_grid_and_survives_saving(architecture, size, tmp_path):
    config = TimmTowerConfig.from_architecture(architecture, image_size=size, stride=16)
    tower = TimmTower(config).eval()
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = encode_images(tower, pixels, -1, token_grid(config))
        assert features.shape == (2, (size // 16) ** 2, config.hidden_size)
        tower.save_pretrained(tmp_path)
        loaded = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.equal(loaded(pixels).last_hidden_state, features)


def test_tokens_are_in_row_major_order():
    config = TimmTowerConfig.from_architecture("convnext_atto", image_size=64, stride=16)
    tower = TimmTower(config).eval()
    pixels = torch.zeros(1, 3, 64, 64)
    changed = pixels.clone()
    changed[..., 0:8, 56:64] = 3.0  # top right corner: row 0, column 3
    with torch.no_grad():
        difference = (tower(changed).last_hidden_state - tower(pixels).last_hidden_state).norm(dim=-1)[0]
    assert difference.argmax().item() == 3


def test_the_stages_after_the_chosen_one_are_gone():
    sizes = [
        sum(p.numel() for p in TimmTower(TimmTowerConfig.from_architecture("convnext_atto", stride=s)).parameters())
        for s in (8, 16, 32)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_every_parameter_of_a_cut_tower_is_used():
    tower = TimmTower(TimmTowerConfig.from_architecture("convnext_atto", image_size=64))
    tower(torch.randn(1, 3, 64, 64)).last_hidden_state.square().sum().backward()
    assert [name for name, p in tower.named_parameters() if p.grad is None] == []


def test_errors_name_what_exists():
    with pytest.raises(ValueError, match="Did you mean 'convnext_atto"):
        TimmTowerConfig.from_architecture("convnext_ato")
    with pytest.raises(ValueError, match=r"no feature map at stride 14. It has \[4, 8, 16, 32\]"):
        TimmTowerConfig.from_architecture("convnext_atto", stride=14)

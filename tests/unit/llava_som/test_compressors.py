from dataclasses import replace

import pytest
import torch

from llava_som.compressors import COMPRESSORS
from llava_som.compressors.base import ProjectedTiles
from llava_som.compressors.doc_compressor import DocCompressor, Keys
from llava_som.compressors.windows import window_tokens
from llava_som.configuration import LlavaSomConfig
from llava_som.tiling import TileGrid

GRID, WIDTH = (4, 2), 32
VISION_16X16 = {"model_type": "clip_vision_model", "image_size": 224, "patch_size": 14}


def compressor(**options):
    torch.manual_seed(0)
    return DocCompressor(WIDTH, **{"heads": 4, **options}).eval()


def tiles_of(pages, seed=0):
    torch.manual_seed(seed)
    return ProjectedTiles(torch.randn(sum(page.num_tiles for page in pages), 8, WIDTH), pages, GRID)


def run(module, tokens, pages, keep=None):
    with torch.no_grad():
        return module(ProjectedTiles(tokens, pages, GRID, keep))[0].view(len(pages), -1, WIDTH)


def test_a_window_holds_the_tokens_over_the_same_part_of_the_page():
    page = TileGrid(2, 3)
    index, meant = window_tokens(tiles_of([TileGrid(1, 1), page]))
    assert meant[1].all()
    assert meant[0].sum(dim=1).tolist() == [1] * 8
    rows, cols = GRID
    for crop in range(page.num_crops):
        for token in range(rows * cols):
            row = (crop // page.cols) * rows + token // cols  # on the map of the whole page
            col = (crop % page.cols) * cols + token % cols
            window = (row // page.rows) * cols + col // page.cols
            assert (1 + crop) * 8 + token in index[1, window].tolist()  # after the crop of the first page


def test_a_token_of_one_crop_changes_the_page_token_of_its_area_and_no_other():
    module, page = compressor(), TileGrid(2, 3)
    tokens = tiles_of([page]).tokens
    before = run(module, tokens, [page])[0]
    row, col, in_row, in_col = 1, 2, 3, 0
    changed = tokens.clone()
    changed[1 + row * page.cols + col, in_row * GRID[1] + in_col] *= -1
    differs = (run(module, changed, [page])[0] - before).abs().amax(dim=1) > 1e-6
    where = ((row * GRID[0] + in_row) // page.rows) * GRID[1] + (col * GRID[1] + in_col) // page.cols
    assert differs.nonzero().flatten().tolist() == [where]


def test_the_order_of_the_keys_in_a_window_means_nothing():
    module, page = compressor(), TileGrid(2, 2)
    tokens = tiles_of([page]).tokens
    keys = module.keys(ProjectedTiles(tokens, [page], GRID))
    layer, query = module.layers[0], tokens[:1]
    flat = tokens[1:].flatten(0, 1)
    found = layer(query, flat, keys)
    shuffled = layer(query, flat, replace(keys, index_PGK=keys.index_PGK[..., [2, 0, 3, 1]]))
    torch.testing.assert_close(found, shuffled, atol=1e-6, rtol=0)


def test_with_one_crop_every_query_has_one_key():
    layer = compressor().layers[0]
    tokens = tiles_of([TileGrid(1, 1)]).tokens
    query = layer.query_norm(tokens[:1])
    attended = query + layer.out_proj(layer.v_proj(layer.key_norm(tokens[1:])))
    expected = attended + layer.mlp(layer.mlp_norm(attended))
    found = layer(tokens[:1], tokens.flatten(0, 1), Keys(torch.arange(8, 16).view(1, 8, 1), None, [1]))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_pruned_tokens_are_no_keys_unless_their_whole_window_is_pruned():
    module, page = compressor(), TileGrid(1, 2)
    tokens = tiles_of([page]).tokens
    keep = torch.ones(3, 8, dtype=torch.bool)
    keep[1, 0] = False  # the window of page token 0 is columns 0 and 1 of row 0 of the map: both in the first crop
    changed = tokens.clone()
    changed[1, 0] *= -1
    torch.testing.assert_close(run(module, changed, [page], keep), run(module, tokens, [page], keep))
    keep[1, 1] = False  # now nothing of that window is left, so all of it is seen
    assert (run(module, changed, [page], keep)[0, 0] - run(module, tokens, [page], keep)[0, 0]).abs().max() > 1e-4


def test_complete_attention_sees_every_crop_of_its_page_and_no_other_page():
    torch.manual_seed(0)
    module = COMPRESSORS.get("complete_attention")(WIDTH, heads=4).eval()
    pages = [TileGrid(1, 2), TileGrid(1, 1)]
    tokens = tiles_of(pages).tokens
    before = run(module, tokens, pages)
    changed = tokens.clone()
    changed[2, 7] *= -1
    differs = (run(module, changed, pages) - before).abs().amax(dim=-1) > 1e-6
    assert differs[0].all() and not differs[1].any()


def test_group_mean_is_the_mean_of_global_token_and_window():
    page = TileGrid(2, 2)
    tokens = tiles_of([page]).tokens
    mean = run(COMPRESSORS.get("group_mean")(WIDTH), tokens, [page])[0]
    index, _ = window_tokens(ProjectedTiles(tokens, [page], GRID))
    crops = tokens[1:].flatten(0, 1)
    expected = torch.stack([torch.cat([tokens[0, :1] * 0 + tokens[0, i], crops[index[0, i]]]).mean(0)
                            for i in range(8)])  # fmt: skip
    torch.testing.assert_close(mean, expected, atol=1e-6, rtol=0)


def test_a_narrower_compressor_has_fewer_weights_and_the_published_width_as_many_as_published():
    with torch.device("meta"):
        published = DocCompressor(4096, eos=True)
        narrow = DocCompressor(4096, inner_width=1024)
    assert sum(p.numel() for p in published.parameters()) == 421_713_920
    assert sum(p.numel() for p in narrow.parameters()) < 40_000_000


def test_what_does_not_fit_is_said_before_any_weight_exists():
    with pytest.raises(ValueError, match="heads=5 do not divide the width 32"):
        compressor(heads=5)
    for option in ("layers", "heads", "inner_width"):
        with pytest.raises(ValueError, match=f"{option}=0: .* at least 1"):
            compressor(**{option: 0})
    with pytest.raises(ValueError, match="needs tiling with a global tile"):
        LlavaSomConfig(compressor="doc_compressor")
    with pytest.raises(ValueError, match="needs tiling with a global tile"):
        LlavaSomConfig(compressor="group_mean", tiling={"global_tile": False})
    with pytest.raises(ValueError, match="Did you mean 'group_mean'"):
        LlavaSomConfig(compressor="group_man", tiling="grid_9")
    with pytest.raises(ValueError, match=r"option of compressor doc_compressor 'head'. Did you mean 'heads'"):
        LlavaSomConfig(compressor={"type": "doc_compressor", "head": 4}, tiling="grid_9")
    with pytest.raises(ValueError, match=r"1x7 patches do not fill .* 16x16"):
        LlavaSomConfig(projector={"type": "h_reducer", "kernel": "1x7"}, vision_config=VISION_16X16)
    with pytest.raises(ValueError, match=r"keep_prefix_tokens goes with none.* 1 token\(s\)"):
        LlavaSomConfig(keep_prefix_tokens=True, tiling="grid_9")


def test_fresh_layers_keep_the_size_of_what_they_are_given_whatever_the_width():
    from tests.tiny import tiny_model

    model, _ = tiny_model(compressor={"type": "doc_compressor", "heads": 4, "inner_width": 128}, tiling="grid_4")
    for layer in (model.compressor.layers[0].v_proj, model.compressor.project, model.compressor.down):
        out = layer(torch.randn(4000, layer.in_features))
        assert out.std().item() == pytest.approx(1, abs=0.1)
        assert not layer.bias.any()

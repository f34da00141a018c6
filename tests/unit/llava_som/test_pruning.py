import pytest
import torch

from llava_som.configuration import LlavaSomConfig
from llava_som.pruning import PRUNERS, build_pruner
from llava_som.pruning.attention import QueriesAndKeys, captured_attention, outliers
from llava_som.pruning.base import TilePruner, TileView, Units
from llava_som.pruning.blank_patch import contrast_of_patches
from llava_som.pruning.budget import apportion
from llava_som.tiling import TileGrid
from tests.unit.llava_som.tile_views import ONE_CROP, PATCHES, SIDE, alike, block, different, pruner, uneven, view_of

VISION_16X16 = {"model_type": "clip_vision_model", "image_size": 224, "patch_size": 14}

# What is taken from the encoder


@pytest.mark.parametrize("layer", [0, -2])
def test_the_attention_of_the_page_is_the_class_tokens_own(layer):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                              image_size=32, patch_size=8, attn_implementation="eager")  # fmt: skip
    torch.manual_seed(0)
    tower, pixels = CLIPVisionModel(config).eval(), torch.randn(2, 3, 32, 32)
    projections = [part for name, part in tower.named_modules() if name.endswith(("q_proj", "k_proj"))]
    with torch.no_grad(), captured_attention(tower, [layer], 1) as captured:
        maps = tower(pixels, output_attentions=True).attentions
    own = maps[layer][:, :, 0, 1:]
    torch.testing.assert_close(captured[layer].attention_of_page(), own.mean(dim=1))
    torch.testing.assert_close(captured[layer].attention_of_page(head_reduce="max"), own.amax(dim=1))
    assert len(projections) == 6 and not any(part._forward_hooks for part in projections)


def test_without_a_class_token_the_page_asks_with_the_mean_query():
    queries, keys = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    found, with_class = QueriesAndKeys(num_prefix=0, heads=1), QueriesAndKeys(num_prefix=1, heads=1)
    for taken in (found, with_class):
        taken.take_queries(queries)
        taken.take_keys(keys)
    mean = torch.einsum("nd,ntd->nt", queries.mean(dim=1), keys).div(8**0.5).softmax(dim=1)
    torch.testing.assert_close(found.attention_of_page(), mean)
    patches_only = torch.einsum("nd,ntd->nt", queries[:, 1:].mean(dim=1), keys).div(8**0.5).softmax(dim=1)
    torch.testing.assert_close(with_class.attention_of_page("mean_patch"), patches_only[:, 1:])


def test_a_block_that_is_not_there_is_named():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tower = CLIPVisionModel(CLIPVisionConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4))
    with pytest.raises(ValueError, match=r"blocks 0 to 2 \(or -1 to -3\), not 7"), captured_attention(tower, [7], 1):
        pass


def test_constant_attention_has_no_outliers_and_a_peak_is_one():
    attention = torch.full((2, 64), 1 / 64)
    attention[1, 5] = 0.5
    assert outliers(attention, 1.5).nonzero().tolist() == [[1, 5]]


# Token correlation


def test_a_white_crop_keeps_the_minimum_a_full_one_everything_a_half_full_one_half():
    half = torch.cat([alike(patches=32), different(patches=32)], dim=1)
    keys = torch.cat([alike(), half, different()])
    view = view_of(block(keys), [TileGrid(1, 3, has_global=False)])
    choice = pruner("token_correlation", min_tokens=5).choose(view)
    assert choice.density.tolist() == [0.0, 0.5, 1.0]
    assert choice.keep.sum(dim=1).tolist() == [5, 32, 64]


def test_a_count_of_likenesses_may_be_given_as_such():
    keys = torch.cat([alike(patches=4), different(patches=60)], dim=1)  # each of four is like three others
    for allowed, density in ((3, 1.0), (2, 60 / 64)):
        assert pruner("token_correlation", redundant_count=allowed).choose(view_of(block(keys))).density == density


def test_the_most_attended_tokens_stay_and_a_deep_outlier_with_them():
    keys = torch.cat([alike(patches=60), different(patches=4)], dim=1)
    low, peak = uneven(), torch.ones(1, PATCHES)
    peak[0, 7] = 50
    low[0, 7] = 0.001
    view = view_of({2: block(keys, low), -2: block(keys, peak)})
    kept = pruner("token_correlation").choose(view).keep[0].nonzero().flatten().tolist()
    top = low[0].topk(4).indices.tolist()
    assert kept == sorted([7, *top])
    without = pruner("token_correlation", use_global=False).choose(view)
    assert without.keep[0].nonzero().flatten().tolist() == sorted(top)


def test_of_a_window_all_patches_must_repeat_others_and_one_may_be_an_outlier():
    keys = alike()
    keys[0, 9] = different()[0, 0]  # row 1, window 2 of 4
    peak = torch.ones(1, PATCHES)
    peak[0, 60:] = torch.tensor([0.25, 0.25, 0.25, 3.25])  # as much as other windows, but in one patch
    low = torch.ones(1, PATCHES)
    low[0, 8:12] = 3
    view = view_of({2: block(keys, low), -2: block(keys, peak)}, window=4)
    choice = pruner("token_correlation").choose(view)
    assert choice.density.item() == 1 / 16
    assert choice.keep[0].nonzero().flatten().tolist() == [2, 15]


def test_training_draws_by_probability_and_inference_repeats_itself():
    tiles, attention = 4000, torch.tensor([0.5, 0.3, 0.2])
    pages = [ONE_CROP] * tiles
    draws = block(different(patches=3).expand(tiles, -1, -1), attention.expand(tiles, 3))
    units = Units(3, torch.arange(3))
    view = TileView(
        torch.zeros(tiles, 3, 1), units, torch.zeros(tiles, 3, 4, 12), {2: draws}, pages, (1, 3), (1, 3), True
    )
    one = pruner("token_correlation", use_global=False, max_keep_ratio=0.34)
    torch.manual_seed(0)
    often = one.choose(view).keep.float().mean(dim=0)
    torch.testing.assert_close(often, attention, atol=0.03, rtol=0)
    at_inference = view_of(block(different(), uneven()))
    random = {"use_global": False, "max_keep_ratio": 0.25, "eval_sampler": "gumbel_topk"}
    first, again = (pruner("token_correlation", **random).choose(at_inference).keep for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, pruner("token_correlation", seed=1, **random).choose(at_inference).keep)
    assert not torch.equal(
        first, pruner("token_correlation", **random | {"eval_sampler": "topk"}).choose(at_inference).keep
    )


def test_a_budget_holds_for_the_pruned_tiles_of_each_page():
    pages = [TileGrid(1, 2), TileGrid(1, 1)]
    dense = torch.cat([different(), alike(), different(), different(), different()])
    view = view_of(block(dense, uneven(5)), pages)
    kept = pruner("token_correlation", token_budget=40, min_tokens=4).choose(view).keep.sum(dim=1).tolist()
    assert (kept[1], kept[2], kept[4]) == (4, 36, 40)
    kept = pruner("token_correlation", token_budget=40, min_tokens=4, apply_to="all").choose(view).keep.sum(dim=1)
    assert kept.split([3, 2])[0].sum() == kept.split([3, 2])[1].sum() == 40


def test_merging_changes_kept_tokens_by_the_dropped_ones_alone():
    keys = torch.cat([alike(patches=60), different(patches=4)], dim=1)
    view = view_of(block(keys, uneven()))
    plain, weighted, added = (
        pruner("token_correlation", aggregate=how, use_global=False).choose(view)
        for how in ("none", "weighted", "prumerge")
    )
    assert torch.equal(plain.features, view.features)
    for merged in (weighted, added):
        assert torch.equal(merged.keep, plain.keep)
        assert (merged.features - view.features)[merged.keep].abs().max() > 1e-3


# Budgets


@pytest.mark.parametrize(
    ("weights", "capacity", "total", "minimum", "expected"),
    [
        ([1, 1, 2], [99, 99, 99], 40, 0, [10, 10, 20]),
        ([1, 1, 2], [99, 99, 5], 40, 0, [18, 17, 5]),  # what a full tile cannot take goes to the others
        ([0, 0, 1], [50, 50, 50], 20, 3, [3, 3, 14]),
        ([1, 99], [9, 9], 5, 0, [0, 5]),
        ([1, 1, 1], [4, 4, 4], 99, 0, [4, 4, 4]),
        ([1, 9, 1], [9, 9, 2], 1, 4, [4, 4, 2]),  # the minimum first, where there is so much
    ],
)
def test_a_budget_is_shared_out_to_the_last_token(weights, capacity, total, minimum, expected):
    parts = apportion(torch.tensor(weights), torch.tensor(capacity), total, minimum)
    assert parts.tolist() == expected


def test_hired_gives_the_global_tile_its_share_and_crops_theirs_by_content():
    early, deep = torch.ones(6, PATCHES), uneven(6)
    early[0].view(SIDE, SIDE)[:, 4:] = 3  # the right half of the first page has three times as much to see
    early[3].view(SIDE, SIDE)[:4] = 7  # the upper half of the second
    view = view_of({0: block(different(6), early), -2: block(different(6), deep)}, [TileGrid(1, 2), TileGrid(2, 1)])
    choice = pruner("hired", keep_ratio=0.25).choose(view)
    assert choice.keep.sum(dim=1).tolist() == [24, 6, 18, 24, 21, 3]
    for tile, count in enumerate((24, 6, 18)):
        top = deep[tile].topk(count).indices.sort().values
        assert torch.equal(choice.keep[tile].nonzero().flatten(), top)
    spared = pruner("hired", keep_ratio=0.25, apply_to="crops").choose(view)
    assert spared.keep.sum(dim=1).tolist() == [64, 8, 24, 64, 28, 4]
    assert pruner("hired", keep_ratio=1).choose(view).keep.all()
    assert pruner("hired", keep_ratio=1, alpha=0).choose(view).keep.all()


def test_hired_splits_a_page_without_global_tile_equally_and_pages_do_not_mix():
    pages = [TileGrid(1, 2, has_global=False), TileGrid(2, 1, has_global=False)]
    view = view_of(block(different(4), uneven(4) ** 9), pages)
    assert pruner("hired", keep_ratio=0.5).choose(view).keep.sum(dim=1).tolist() == [32] * 4


# What looks at no attention


def test_a_patch_is_blank_by_its_pixels():
    view = view_of({}, [ONE_CROP] * 2)
    view.pixel_values[0, :, 4:8, 8:12] = torch.randn(3, 4, 4)  # patch (1, 2)
    view.pixel_values[0, :, 0:4, 0:4] = 2.0  # a flat colour is blank
    view.pixel_values[1] = torch.randn(3, 32, 32) * 0.02  # paper with grain
    choice = pruner("blank_patch").choose(view)
    assert choice.keep[0].nonzero().flatten().tolist() == [10]
    assert choice.density.tolist() == [1 / 64, 0.0]
    assert choice.keep[1].sum() == 1
    assert pruner("blank_patch", keep_ratio=0.5).choose(view).keep.sum(dim=1).tolist() == [32, 32]


def test_contrast_ignores_what_lies_beyond_the_last_whole_patch():
    pixels = torch.zeros(1, 3, 34, 34)
    pixels[:, :, 32:] = torch.randn(3, 2, 34)
    assert contrast_of_patches(pixels, (8, 8)).max() == 0
    pixels[0, 0, :2, :4] = 1.0  # half of a patch, one channel of three
    torch.testing.assert_close(contrast_of_patches(pixels, (8, 8))[0, 0], torch.tensor((0.25 / 3) ** 0.5))


def test_a_stride_is_uniform_whatever_the_number():
    for budget in (1, 7, 32, 64):
        kept = pruner("uniform_stride", keep_ratio=budget / 64).choose(view_of({})).keep[0].nonzero().flatten()
        assert len(kept) == budget
        gaps = kept.diff(prepend=torch.tensor([-(64 - int(kept[-1]))]))
        assert gaps.max() - gaps.min() <= 1 + (budget == 1)


# All of them


@pytest.mark.parametrize("name", [n for n in PRUNERS.names() if issubclass(PRUNERS.get(n), TilePruner)])
def test_half_precision_goes_in_and_comes_out(name):
    half = block(different(2).bfloat16(), uneven(2))
    view = view_of(half, [ONE_CROP] * 2, features=torch.randn(2, PATCHES, 6).bfloat16())
    choice = pruner(name).choose(view)
    assert choice.features.dtype == torch.bfloat16
    assert choice.scores.dtype == torch.float32
    assert choice.features.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("token_correlation", {"similarity_threshold": 90}, "must be a cosine"),
        ("token_correlation", {"token_budget": 0}, "token_budget=0: must be at least 1"),
        ("token_correlation", {"max_keep_ratio": 1.5}, "max_keep_ratio=1.5: must be above 0"),
        ("token_correlation", {"sampler": "nucleus"}, "sampler='nucleus'"),
        ("blank_patch", {"threshold": -1}, "never negative"),
        ("blank_patch", {"keep_ratio": 0}, "keep_ratio=0.0: must be above 0"),
        ("prumerge", {"neighbours": -1}, "neither may be negative"),
        ("prumerge_plus", {"spread": 0}, "without spread tokens it is prumerge"),
        ("visionzip", {"dominant": -3}, "a share below 1 or a number of tokens"),
        ("hired", {"alpha": 2}, "alpha=2.0: must be from 0 to 1"),
        ("uniform_stride", {"keep_ration": 0.5}, "Did you mean 'keep_ratio'"),
        ("random", {"min_tokens": 0}, "must be at least 1"),
    ],
)
def test_a_wrong_option_says_what_is_right(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_pruner({"type": name, **options})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"projector": "c_abstractor"}, r"CAbstractor needs the whole grid.* Use placement=post_v2t"),
        ({"compressor": "group_mean", "tiling": "grid_4"}, r"compressor='group_mean' needs\. Use pre_v2t_group or"),
    ],
)
def test_a_placement_that_the_parts_do_not_allow_is_refused_and_what_was_there_stays(parts, message):
    wrong = {"type": "random", "placement": "pre_v2t"}
    with pytest.raises(ValueError, match=message):
        LlavaSomConfig(pruning=wrong, vision_config=VISION_16X16, **parts)
    config = LlavaSomConfig(pruning="blank_patch", vision_config=VISION_16X16, **parts)
    with pytest.raises(ValueError, match=message):
        config.set_pruning(wrong)
    assert config.pruning == {"type": "blank_patch"}

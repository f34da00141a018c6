import pytest
import torch

from llava_som.pruning.attention import QueriesAndKeys
from llava_som.pruning.merging import averaged_into_nearest, nearest_added
from tests.unit.llava_som.tile_views import ONE_CROP, PATCHES, block, different, pruner, uneven, view_of


def test_each_dropped_token_is_averaged_into_its_most_similar_target(monkeypatch):
    features, keys, weights = torch.randn(3, 12, 5), torch.randn(3, 12, 7), torch.rand(3, 12)
    is_target = torch.zeros(3, 12, dtype=torch.bool)
    is_target[:, [1, 4, 9]] = True
    expected = features.clone()
    for tile in range(3):
        groups = {target: [target] for target in (1, 4, 9)}
        for other in {*range(12)} - {1, 4, 9}:
            alike = [torch.cosine_similarity(keys[tile, other], keys[tile, target], dim=0) for target in groups]
            groups[[*groups][int(torch.stack(alike).argmax())]].append(other)
        for target, group in groups.items():
            share = weights[tile, group] / weights[tile, group].sum()
            expected[tile, target] = (share.unsqueeze(1) * features[tile, group]).sum(dim=0)
    torch.testing.assert_close(averaged_into_nearest(features, keys, weights, is_target), expected)
    monkeypatch.setattr("llava_som.pruning.merging._PAIRS_AT_ONCE", 1)  # a tile at a time
    torch.testing.assert_close(averaged_into_nearest(features, keys, weights, is_target), expected)


def prumerge_one_by_one(features, keys, attention, kept, neighbours):
    """The published loop over kept tokens, of one tile."""
    merged = {}
    for token in kept:
        others = [other for other in range(len(features)) if other != token]
        alike = torch.cosine_similarity(keys[token].unsqueeze(0), keys[others], dim=1)
        near = [others[place] for place in alike.topk(neighbours).indices]
        merged[token] = features[token] + (attention[near].unsqueeze(1) * features[near]).sum(dim=0)
    dropped = [token for token in range(len(features)) if token not in kept]
    rest = (attention[dropped].unsqueeze(1) * features[dropped]).sum(dim=0)
    return merged, dropped[int(attention[dropped].argmax())], rest


@pytest.mark.parametrize("name", ["prumerge", "prumerge_plus"])
def test_prumerge_equals_the_published_loop(name):
    attention = uneven(2) / 40
    attention[0, [3, 20, 50]] = torch.tensor([0.2, 0.3, 0.1])
    attention[1, 40] = 0.4
    attention /= attention.sum(dim=1, keepdim=True)
    view = view_of(block(different(2), attention), [ONE_CROP] * 2)
    choice = pruner(name, neighbours=5).choose(view)
    for tile, strongest in enumerate(({3, 20, 50}, {40})):
        step = int(int(PATCHES / len(strongest)) / 3)
        kept = strongest | (set(range(0, PATCHES, step)) if name == "prumerge_plus" else set())
        keys = view.attention[-1].patch_keys()[tile]
        merged, place, rest = prumerge_one_by_one(view.features[tile], keys, attention[tile], kept, 5)
        assert choice.keep[tile].nonzero().flatten().tolist() == sorted({*kept, place})
        torch.testing.assert_close(choice.features[tile, place], rest, atol=1e-5, rtol=1e-5)
        for token, expected in merged.items():
            torch.testing.assert_close(choice.features[tile, token], expected, atol=1e-5, rtol=1e-5)


def test_prumerge_takes_the_full_width_as_one_head():
    found = QueriesAndKeys(1, heads=4)
    queries, keys = torch.randn(2, 1, PATCHES + 1, 32)
    found.take_queries(queries)
    found.take_keys(keys)
    row = (queries[:, 0] @ keys[0].T / 32**0.5).softmax(dim=1)[:, 1:]
    torch.testing.assert_close(pruner("prumerge").choose(view_of(found)).scores, row)


def test_a_share_takes_the_place_of_the_outliers():
    view = view_of(block(different(), uneven()))
    assert pruner("prumerge", keep_ratio=0.25).choose(view).keep.sum() == 16 + 1
    assert pruner("prumerge", keep_ratio=0.25, min_tokens=30).choose(view).keep.sum() == 30 + 1


def test_adding_neighbours_never_counts_a_token_as_its_own():
    features = torch.eye(4).unsqueeze(0)
    added = nearest_added(features, torch.ones(1, 4, 2), torch.full((1, 4), 0.5), neighbours=9)
    torch.testing.assert_close(added, (torch.eye(4).unsqueeze(0) + 1) / 2)


def test_visionzip_keeps_dominant_tokens_and_averages_the_rest_into_evenly_spaced_ones():
    attention = uneven()
    view = view_of(block(different(), attention), features=torch.randn(1, PATCHES, 6))
    choice = pruner("visionzip", dominant=10, contextual=5).choose(view)
    dominant = attention[0].topk(10).indices.tolist()
    rest = [token for token in range(PATCHES) if token not in dominant]
    targets = rest[:: len(rest) // 5][:5]
    assert choice.keep[0].nonzero().flatten().tolist() == sorted(dominant + targets)
    assert torch.equal(choice.features[0, dominant], view.features[0, dominant])
    keys = view.attention[-2].patch_keys()[0]
    groups = {target: [target] for target in targets}
    for other in set(rest) - set(targets):
        groups[targets[int(torch.cosine_similarity(keys[other].unsqueeze(0), keys[targets]).argmax())]].append(other)
    for target, group in groups.items():
        torch.testing.assert_close(choice.features[0, target], view.features[0, group].mean(dim=0))


def test_visionzip_takes_shares_and_fills_up_to_the_minimum():
    view = view_of(block(different(), uneven()))
    assert pruner("visionzip").choose(view).keep.sum() == 18 + 4  # 162 and 30 of 576
    assert pruner("visionzip", min_tokens=40).choose(view).keep.sum() == 40
    assert pruner("visionzip", dominant=0.5, contextual=0).choose(view).keep.sum() == 32


def test_visionzip_compares_keys_averaged_over_the_heads():
    keys = torch.tensor([[[9.0, 9.0, 9.0, 9.0], [1.0, 2.0, 3.0, 6.0]]])
    assert QueriesAndKeys(1, 2, keys).head_mean_keys().tolist() == [[[2.0, 4.0]]]

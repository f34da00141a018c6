"""Each projector against its published form, written here a second time as plainly as possible."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.resampler import sincos_positions
from tests.tiny import drawn_image, tiny_model, user

D, D_TEXT = 8, 12


def build(name, width=D, **options):
    torch.manual_seed(0)
    return PROJECTORS.get(name)(width, D_TEXT, **options).eval()


def as_map(features, rows, cols):
    return features.transpose(1, 2).unflatten(2, (rows, cols))


def as_tokens(feature_map):
    return feature_map.flatten(2).transpose(1, 2)


def as_linear(weight):
    """A kernel `[out, D, 1, k]` that is its own stride, as a layer on k patches of D numbers each."""
    return weight[:, :, 0].transpose(1, 2).flatten(1)


def convolved(features, grid, expand, reduce, project):
    """H-Reducer as published; each argument after the grid is a weight and a bias."""
    count, kernel = len(features), expand[0].shape[-1]
    wide = F.gelu(F.conv2d(as_map(features, *grid), *expand, stride=(1, kernel)))
    channels = wide.shape[1] // kernel
    shuffled = torch.empty(count, channels, grid[0], grid[1])
    for column in range(wide.shape[3]):
        for place in range(kernel):
            shuffled[..., column * kernel + place] = wide[:, place * channels : (place + 1) * channels, :, column]
    return F.linear(as_tokens(F.conv2d(shuffled, *reduce, stride=(1, kernel))), *project)


@pytest.mark.parametrize("kernel", ["1x2", "1x4", "1x8"])
def test_h_reducer_equals_its_convolutions(kernel):
    size = int(kernel[2:])
    expand = torch.randn(size * D, D, 1, size) / D, torch.randn(size * D)
    reduce = torch.randn(D, D, 1, size) / D, torch.randn(D)
    projector = build("h_reducer", kernel=kernel)
    load = {"expand.weight": as_linear(expand[0]), "expand.bias": expand[1]}
    load |= {"reduce.weight": as_linear(reduce[0]), "reduce.bias": reduce[1]}
    projector.load_state_dict(load, strict=False)
    features = torch.randn(2, 6 * 16, D)
    project = projector.project.weight, projector.project.bias
    expected = convolved(features, (6, 16), expand, reduce, project)
    torch.testing.assert_close(projector(features, (6, 16)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "height", "width"),
    [
        ("h_reducer", {"kernel": "2x2"}, 2, 2),
        ("h_reducer", {"kernel": [2, 4]}, 2, 4),
        ("pixel_shuffle", {"factor": 3}, 3, 3),
        ("avgpool", {"factor": 2}, 2, 2),
        ("tokenpacker", {"factor": 4}, 4, 4),
    ],
)
def test_a_token_depends_on_the_patches_of_its_window_and_on_no_other(name, options, height, width):
    grid = rows, cols = 2 * height, 3 * width
    features = torch.randn(1, rows * cols, D, requires_grad=True)
    tokens = build(name, **options)(features, grid)
    for token, (row, col) in enumerate((row, col) for row in range(2) for col in range(3)):
        (gradient,) = torch.autograd.grad(tokens[0, token].sum(), features, retain_graph=True)
        window = torch.zeros(rows, cols, dtype=torch.bool)
        window[row * height : (row + 1) * height, col * width : (col + 1) * width] = True
        assert torch.equal(gradient[0].any(dim=-1), window.flatten())


def test_pixel_shuffle_concatenates_as_internvl_does():
    projector, features = build("pixel_shuffle"), torch.randn(2, 4 * 6, D)
    wide = features.view(2, 4, 3, 2 * D).permute(0, 2, 1, 3).reshape(2, 3, 2, 4 * D).permute(0, 2, 1, 3)
    layers = nn.Sequential(projector.norm, projector.linear_1, nn.GELU(), projector.linear_2)
    torch.testing.assert_close(projector(features, (4, 6)), layers(wide.flatten(1, 2)), atol=1e-6, rtol=0)


def test_avgpool_is_the_mlp_on_pooled_features():
    projector, mlp = build("avgpool", factor=3), build("mlp2x_gelu")
    mlp.load_state_dict(projector.state_dict())
    features = torch.randn(2, 6 * 9, D)
    pooled = as_tokens(F.avg_pool2d(as_map(features, 6, 9), 3))
    torch.testing.assert_close(projector(features, (6, 9)), mlp(pooled), atol=1e-6, rtol=0)


def test_ldpv2_equals_the_published_order_of_layers():
    projector, features = build("ldpv2"), torch.randn(2, 4 * 8, D)
    hidden = projector.linear_2(F.gelu(projector.linear_1(features)))
    pooled = nn.AdaptiveAvgPool2d((2, 4))(as_map(hidden, 4, 8))
    expected = as_tokens(projector.positions(pooled) + pooled)
    torch.testing.assert_close(projector(features, (4, 8)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_tokenpacker_equals_bilinear_queries_in_torch_attention(factor):
    rows, cols, levels = 2 * factor, 3 * factor, 2
    projector = build("tokenpacker", width=levels * D, factor=factor, levels=levels, heads=2)
    features = torch.randn(2, rows * cols, levels * D)
    small = F.interpolate(as_map(features[..., -D:], rows, cols), size=(2, 3), mode="bilinear")
    queries = projector.query(as_tokens(small))
    keys, values = projector.key_norm(projector.key(features)), projector.value_norm(projector.value(features))
    tokens = []
    for row in range(2):
        for col in range(3):
            inside = torch.zeros(rows, cols, dtype=torch.bool)
            inside[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor] = True
            inside, token = inside.flatten(), row * 3 + col
            query = queries[:, token : token + 1]
            tokens.append(torch_attention(projector.attention, query, keys[:, inside], values[:, inside]))
    expected = projector.project(torch.cat(tokens, dim=1))
    torch.testing.assert_close(projector(features, (rows, cols)), expected, atol=1e-5, rtol=0)


def torch_attention(attention, query, keys, values):
    """The same weights in `nn.MultiheadAttention`."""
    reference = nn.MultiheadAttention(D, attention.heads, batch_first=True)
    q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
    reference.in_proj_weight.data = torch.cat([q.weight, k.weight, v.weight])
    reference.in_proj_bias.data = torch.cat([q.bias, torch.zeros(D), v.bias])
    reference.out_proj.load_state_dict(attention.out_proj.state_dict())
    return reference(query, keys, values)[0]


def test_tokenpacker_reads_several_layers_of_the_encoder():
    model, processor = tiny_model(projector={"type": "tokenpacker", "levels": 2}, vision_feature_layer=[1, 2])
    inputs = processor.apply_chat_template(
        [[user("?", drawn_image(1))]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    model(**inputs).logits.square().sum().backward()
    first_layer = model.multi_modal_projector.value[0].weight.grad
    assert first_layer[:, :32].any() and first_layer[:, 32:].any()


@pytest.mark.parametrize(("rows", "cols"), [(8, 8), (8, 12), (12, 9)])
def test_a_resampler_query_is_nearest_to_the_patches_of_its_own_area(rows, cols):
    like = torch.zeros(1, 1, 64)
    queries, patches = sincos_positions(4, 4, 4, like), sincos_positions(rows, cols, 4, like)
    nearest = (queries @ patches.T).argmax(dim=1)
    assert (nearest // cols * 4 // rows).tolist() == [query // 4 for query in range(16)]
    assert (nearest % cols * 4 // cols).tolist() == [query % 4 for query in range(16)]


def test_a_resampler_is_torch_attention_with_positions_on_queries_and_keys():
    projector, features = build("resampler", num_queries=4, layers=2, heads=2), torch.randn(2, 3 * 5, D)
    patches, hidden = projector.patch_norm(features), projector.queries.expand(2, -1, -1)
    for layer in projector.layers:
        query = layer.attention_norm(hidden) + sincos_positions(2, 2, 2, features)
        keys = patches + sincos_positions(3, 5, 2, features)
        hidden = hidden + torch_attention(layer.attention, query, keys, patches)
        hidden = hidden + layer.mlp(layer.mlp_norm(hidden))
    expected = projector.project(projector.norm(hidden))
    torch.testing.assert_close(projector(features, (3, 5)), expected, atol=1e-5, rtol=0)


def test_c_abstractor_pools_grids_that_its_tokens_do_not_divide():
    projector, features = build("c_abstractor", num_queries=4, depth=1), torch.randn(1, 15, D)
    seen = projector.before(as_map(features, 3, 5))
    cells = [seen[..., top:bottom, left:right].mean(dim=(2, 3)) for top, bottom in [(0, 2), (1, 3)]
             for left, right in [(0, 3), (2, 5)]]  # fmt: skip
    pooled = torch.stack(cells, dim=2).unflatten(2, (2, 2))
    expected = projector.linear_2(F.silu(projector.linear_1(as_tokens(projector.after(pooled)))))
    torch.testing.assert_close(projector(features, (3, 5)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("h_reducer", {"kernel": "4"}, "kernel='4'"),
        ("h_reducer", {"kernel": [0, 4]}, r"kernel=\[0, 4\]"),
        ("h_reducer", {"kernel": 4}, "kernel=4"),
        ("pixel_shuffle", {"factor": 0}, "factor=0: .* at least 1"),
        ("avgpool", {"factor": "2x2"}, "factor='2x2'"),
        ("ldpv2", {"factor": 1.5}, "factor=1.5"),
        ("tokenpacker", {"factor": 1}, "factor=1: .* at least 2"),
        ("tokenpacker", {"levels": 3}, "levels=3 do not divide features of width 8"),
        ("tokenpacker", {"heads": 3}, "heads=3 .* width 8 .* 1, 2, 4, 8"),
        ("resampler", {"num_queries": 50}, "num_queries=50: must be a square"),
        ("resampler", {"heads": 16}, "heads=16"),
        ("resampler", {"layers": 0}, "layers=0"),
        ("c_abstractor", {"num_queries": -4}, "num_queries=-4"),
        ("c_abstractor", {"depth": 0}, "depth=0: .* avgpool"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "grid", "message"),
    [
        ("h_reducer", {"kernel": "1x4"}, (4, 6), "1x4 patches do not fill .* 4x6"),
        ("pixel_shuffle", {}, (5, 4), "2x2 patches do not fill .* 5x4"),
        ("ldpv2", {"factor": 3}, (6, 4), "3x3 patches do not fill .* 6x4"),
        ("resampler", {"num_queries": 64}, (4, 16), "8x8 tokens, finer than .* 4x16 .* at most 16"),
        ("c_abstractor", {"num_queries": 64}, (6, 6), "8x8 tokens, finer than .* 6x6 .* at most 36"),
    ],
)
def test_a_grid_that_does_not_fit_is_an_error_before_and_with_features(name, options, grid, message):
    with pytest.raises(ValueError, match=message):
        PROJECTORS.get(name).output_grid(*grid, **options)
    with pytest.raises(ValueError, match=message):
        build(name, **options)(torch.randn(1, grid[0] * grid[1], D), grid)


@pytest.mark.parametrize("name", ["h_reducer", "pixel_shuffle", "ldpv2", "resampler", "c_abstractor"])
def test_a_class_token_among_the_patches_is_an_error(name):
    with pytest.raises(ValueError, match=r"145 tokens .* 12x12 .* keep_prefix_tokens"):
        build(name)(torch.randn(1, 145, D), (12, 12))


def test_tokens_that_are_no_square_need_a_grid():
    with pytest.raises(ValueError, match="24 patches are no square"):
        build("pixel_shuffle")(torch.randn(1, 24, D))

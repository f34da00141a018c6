"""Every registered projector keeps the promises the processor and the trainer rely on, with its default options."""

import math

import pytest
import torch
from torch import nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import GroupedProjector
from tests.tiny import VISION, drawn_image, tiny_model, user

SQUARE = [(4, 4), (12, 12)]  # the second where a projector makes more tokens than the first has patches
WIDE = [(4, 8), (12, 16)]
GROUPED = [name for name in PROJECTORS.names() if issubclass(PROJECTORS.get(name), GroupedProjector)]


@pytest.fixture(params=PROJECTORS.names())
def name(request):
    return request.param


@pytest.fixture
def model(name, monkeypatch):
    monkeypatch.setitem(VISION, "clip", {**VISION["clip"], "image_size": 96})
    return tiny_model(projector=name)


def accepted(name, grids=SQUARE):
    """The first of some grids that the projector takes, and how many patches that is."""
    for rows, cols in grids:
        try:
            PROJECTORS.get(name).output_grid(rows, cols)
            return (rows, cols), rows * cols
        except ValueError:
            continue
    raise AssertionError(f"{name} takes none of {grids}")


def build(name):
    torch.manual_seed(0)
    return PROJECTORS.get(name)(24, 40).eval()


@pytest.mark.parametrize("grids", [SQUARE, WIDE, [grid[::-1] for grid in WIDE]])
def test_num_tokens_is_the_real_length(name, grids):
    grid, patches = accepted(name, grids)
    kind = PROJECTORS.get(name)
    out_rows, out_cols = kind.output_grid(*grid)
    assert kind.num_tokens(*grid) == out_rows * out_cols + kind.num_special()
    assert build(name)(torch.randn(2, patches, 24), grid).shape == (2, kind.num_tokens(*grid), 40)


def test_a_square_grid_need_not_be_stated(name):
    grid, patches = accepted(name)
    features, projector = torch.randn(1, patches, 24), build(name)
    assert torch.equal(projector(features), projector(features, grid))


def test_every_parameter_gets_a_gradient(name):
    _, patches = accepted(name)
    projector = build(name)
    projector(torch.randn(2, patches, 24)).square().sum().backward()
    for key, parameter in projector.named_parameters():
        assert parameter.grad.abs().max() > 1e-4, key


def test_a_batch_equals_its_samples(name):
    _, patches = accepted(name)
    features, projector = torch.randn(3, patches, 24), build(name)
    with torch.no_grad():
        torch.testing.assert_close(projector(features)[1:2], projector(features[1:2]), atol=1e-5, rtol=0)


def test_in_bfloat16_it_gives_nearly_the_same_tokens(name):
    _, patches = accepted(name)
    features, projector = torch.randn(2, patches, 24), build(name)
    with torch.no_grad():
        full = projector(features)
        half = projector.bfloat16()(features.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() < 0.03 * full.norm()


@pytest.mark.parametrize("name", GROUPED)
def test_windows_alone_give_the_tokens_they_give_in_the_whole(name):
    projector = build(name)
    grid, patches = accepted(name, WIDE)
    features = torch.randn(2, patches, 24)
    chosen = torch.rand(2, math.prod(projector.output_grid(*grid))) < 0.4
    with torch.no_grad():
        whole = projector(features, grid)[:, : chosen.shape[1]]
        some = projector.project_windows(projector.windows_of(features, grid)[chosen])
    torch.testing.assert_close(some, whole[chosen], atol=1e-5, rtol=0)


def test_fresh_weights_have_the_spread_of_the_decoder_and_no_bias(model):
    for key, module in model[0].multi_modal_projector.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert 0.01 < module.weight.std() < 0.03, key  # initializer_range is 0.02
            assert module.bias is None or not module.bias.any(), key
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias is None or not module.bias.any()), key
        else:
            for parameter in module.parameters(recurse=False):
                assert 0.01 < parameter.std() < 0.03, key


def test_in_a_model_it_saves_and_loads(model, tmp_path):
    from llava_som.auto import LlavaSomForConditionalGeneration

    model, processor = model
    model.save_pretrained(tmp_path)
    inputs = processor.apply_chat_template(
        [[user("?", drawn_image(1))]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    loaded = LlavaSomForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)

"""Every registered projector keeps the promises the processor and the trainer rely on."""

import pytest
import torch

from llava_som.projectors import PROJECTORS
from tests.tiny import drawn_image, tiny_model, user


@pytest.fixture(params=PROJECTORS.names())
def name(request):
    return request.param


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (8, 8), (4, 8)])
def test_num_tokens_is_the_real_length(name, rows, cols):
    projector = PROJECTORS.get(name)(24, 40)
    out = projector(torch.randn(2, rows * cols, 24), (rows, cols))
    assert out.shape == (2, PROJECTORS.get(name).num_tokens(rows, cols), 40)


def test_every_parameter_gets_a_gradient(name):
    projector = PROJECTORS.get(name)(24, 40)
    projector(torch.randn(1, 16, 24)).square().sum().backward()
    for key, parameter in projector.named_parameters():
        assert parameter.grad.abs().sum() > 0, key


def test_a_batch_equals_its_samples_and_bfloat16_works(name):
    projector = PROJECTORS.get(name)(24, 40).eval()
    features = torch.randn(3, 16, 24)
    with torch.no_grad():
        together = projector(features)
        torch.testing.assert_close(together[1:2], projector(features[1:2]), atol=1e-6, rtol=0)
        half = projector.bfloat16()(features.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), together, atol=0.05, rtol=0.05)


def test_in_a_model_it_saves_and_loads(name, tmp_path):
    from llava_som.auto import LlavaSomForConditionalGeneration

    model, processor = tiny_model(projector=name)
    model.save_pretrained(tmp_path)
    inputs = processor.apply_chat_template(
        [[user("?", drawn_image(1))]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    loaded = LlavaSomForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)

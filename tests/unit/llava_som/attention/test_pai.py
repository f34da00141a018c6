"""PAI's edit of attention, against softmax with raised logits over whole matrices."""

import warnings
from dataclasses import dataclass

import pytest
import torch

from llava_som.attention.pai import PAI, without_images
from llava_som.attention.second_stream import stream_inputs
from llava_som.attention.var import VAR
from tests.decoders import IMAGE, one_of, prompts, tiny
from tests.oracle import oracle

STEPS = 4


@dataclass(frozen=True, kw_only=True)
class FromTheQuestionOn(PAI):
    """Every row from `start` on, each as the last of its own call: what decoding with a cache edits."""

    start: int = 0

    def reweight(self, attention, hidden, is_image, *, observed=None, scores=None):
        edited = attention.clone()
        for row in range(self.start, attention.shape[2]):
            shorter = attention[:, :, : row + 1], hidden, is_image
            edited[:, :, row] = super().reweight(*shorter, scores=scores[:, :, : row + 1])[:, :, -1]
        return edited


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "ours", "gpt_oss"])
def test_each_token_of_an_answer_is_edited_as_it_is_generated(name):
    model = tiny(name)
    inputs = one_of(prompts(name, model, after=(7, 4)), 1)
    length = inputs["input_ids"].shape[1]
    with PAI(gamma=1.0).on(model) as run:
        told = {
            "output_logits": True,
            "return_dict_in_generate": True,
            "suppress_tokens": [model.config.image_token_id],
        }
        output = model.generate(**inputs, max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, **told)
    assert run.changed["PAI"] > 0
    assert {layer for _, layer in run.reports()} == set(range(2, len(model.get_decoder().layers)))
    longer = {**inputs, "input_ids": output.sequences, "attention_mask": torch.ones_like(output.sequences)}
    is_image = output.sequences == model.config.image_token_id
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = is_image.int()
    method = FromTheQuestionOn(start=length - 1)
    with torch.no_grad(), oracle(method, model, is_image, torch.ones_like(is_image)):
        wanted = model(**longer, use_cache=False).logits[0, length - 1 : -1]
    assert (torch.cat(output.logits) - wanted).abs().max() < 5e-5


def test_an_earlier_intervention_remains_as_a_factor():
    model = tiny("llava")
    inputs = prompts("llava", model)
    both = VAR(sink_dims=[3, 11, 17], tau_rel=0.25, rho=0.2, image_mass=0.05, preset="repo") + PAI(gamma=1.0)
    is_image = inputs["input_ids"] == IMAGE
    with torch.no_grad():
        with oracle(both, model, is_image, torch.ones_like(is_image)):
            wanted = model(**inputs).logits
        with both.on(model):
            assert (model(**inputs).logits - wanted).abs().max() < 2e-5


def test_weights_too_small_to_represent_do_not_spoil_a_row():
    method = PAI(alpha=1.0)
    scores = torch.tensor([-600.0, 3.0, 2.0]).view(1, 1, 1, 3)
    call = type("Call", (), {"of_keys": staticmethod(lambda kept: kept)})()
    call.tokens = type("Tokens", (), {"is_image": torch.tensor([[True, False, False]])})()
    new = method.rewrite(scores.softmax(dim=-1), scores, call, slice(0, 1))
    assert torch.allclose(new.sum(), torch.tensor(1.0)) and new[..., 1] > new[..., 2] > 0


def test_the_text_alone_is_the_prompt_without_placeholders():
    model = tiny("qwen2_vl")
    start, end = model.config.vision_start_token_id, model.config.vision_end_token_id
    ids = torch.tensor([[0, 0, 5, start, IMAGE, IMAGE, end, 6], [5, start, IMAGE, end, 7, 8, 9, 4]])
    given = {"input_ids": ids, "attention_mask": (ids != 0).long(), "image_grid_thw": torch.ones(2, 3).long()}
    text = without_images(model, stream_inputs("PAI", model, given))
    assert text["input_ids"].tolist() == [[0, 0, 0, 5, 6], [5, 7, 8, 9, 4]]
    assert text["attention_mask"].tolist() == [[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    assert "image_grid_thw" not in text
    with pytest.raises(ValueError, match="gamma=1"):
        without_images(model, {"input_ids": ids[:, 4:5], "attention_mask": torch.ones(2, 1)})


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"gamma": 0.9}, {"cut": -1}], ids=str)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PAI(**options)


def test_it_warns_where_there_was_no_image():
    model = tiny("llava")
    with pytest.warns(UserWarning, match="no image"), PAI().on(model):
        model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with PAI().on(model):
            model.generate(**prompts("llava", model), max_new_tokens=2)

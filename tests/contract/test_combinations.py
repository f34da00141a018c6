"""Every projector with every compressor and every pruner: it generates, trains, and is saved and loaded."""

import pytest
import torch

from llava_som.auto import LlavaSomForConditionalGeneration
from llava_som.compressors import COMPRESSORS
from llava_som.projectors import PROJECTORS
from llava_som.pruning import PRUNERS
from tests.tiny import assistant, drawn_image, tiny_model, user

# Where the defaults are made for larger models than these, of 16 patches a tile and two layers.
FITTING = {
    "resampler": {"num_queries": 4},
    "c_abstractor": {"num_queries": 4, "depth": 1},
    "doc_compressor": {"heads": 4},
    "complete_attention": {"heads": 4},
    "token_correlation": {"layer_low": 0},
    "fastv": {"layer": 1},
    "pyramiddrop": {"stage_ends": [0.5]},
}
CONVERSATIONS = [
    [user("What is this?", drawn_image(1, (50, 100)), drawn_image(2, (40, 40))), assistant("Two pages.")],
    [user("And here?", drawn_image(3, (90, 60))), assistant("One.")],
]


def fitting(name, **options):
    return {"type": name, **FITTING.get(name, {}), **options}


@pytest.mark.parametrize("compressor", COMPRESSORS.names())
@pytest.mark.parametrize("projector", PROJECTORS.names())
def test_parts_go_together(projector, compressor, tmp_path):
    parts = {"projector": fitting(projector), "compressor": fitting(compressor), "tiling": "grid_4"}
    model, processor = tiny_model(**parts)
    encode = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    padding = {"processor_kwargs": {"padding": True, "padding_side": "left"}}
    prompts = [conversation[:1] for conversation in CONVERSATIONS]
    prompt = processor.apply_chat_template(prompts, add_generation_prompt=True, **encode, **padding)
    whole = processor.apply_chat_template(CONVERSATIONS, **encode, **padding)
    labels = whole["input_ids"].masked_fill(whole["input_ids"] == model.config.image_token_id, -100)
    length = prompt["input_ids"].shape[1]
    for name in PRUNERS.names():
        model.set_pruning(fitting(name, min_tokens=1))
        answer = model.eval().generate(**prompt, max_new_tokens=2, min_new_tokens=2)
        assert torch.equal(answer[:, :length], prompt["input_ids"]) and answer.shape[1] == length + 2, name
        model.train()(**whole, labels=labels).loss.backward()
        gradients = [parameter.grad for parameter in model.multi_modal_projector.parameters()]
        assert all(gradient.isfinite().all() for gradient in gradients), name
        assert any(gradient.any() for gradient in gradients), name
        model.zero_grad()
    model.eval().save_pretrained(tmp_path)
    loaded = LlavaSomForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.config.pruning == model.config.pruning
    with torch.no_grad():
        assert torch.equal(loaded(**prompt).logits, model(**prompt).logits)

"""Every registered pruner that works inside the decoder keeps the promises of `pruning=...`."""

import pytest
import torch

from llava_som.assembly import assemble
from llava_som.auto import LlavaSomForConditionalGeneration
from llava_som.pruning import PRUNERS, build_pruner
from llava_som.pruning.in_decoder import DecoderPruner
from tests.tiny import DECODERS, VISION, drawn_image, tiny_tokenizer, user


@pytest.fixture(params=[name for name in PRUNERS.names() if issubclass(PRUNERS.get(name), DecoderPruner)])
def name(request):
    return request.param


def a_model(pruning, **options):
    torch.manual_seed(0)
    decoder = DECODERS["llama"] | {"num_hidden_layers": 4}
    model, processor = assemble(VISION["clip"], decoder, tokenizer=tiny_tokenizer(), pruning=pruning, **options)
    return model.eval(), processor


def prompt(processor):
    messages = [user("What is this?", drawn_image(1, (96, 60)), drawn_image(2))]
    return processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")


def test_where_it_drops_fits_every_usual_depth(name):
    for depth in (4, 12, 22, 28, 32, 40, 80):
        drops = build_pruner({"type": name}).drops(depth)
        assert list(drops) == sorted(set(drops))
        assert 0 < drops[0] <= drops[-1] < depth


def test_a_share_or_a_minimum_that_keeps_nothing_is_refused(name):
    for options in ({"keep_ratio": 0.0}, {"keep_ratio": 1.5}, {"min_tokens": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            build_pruner({"type": name, **options})


def test_more_is_kept_with_a_higher_share_and_never_less_than_the_minimum(name):
    counts = torch.tensor([0, 3, 20, 1000])
    low, high = (build_pruner({"type": name, "keep_ratio": share}).budget(counts) for share in (0.1, 0.9))
    assert low.tolist() == [0, 3, 16, 100]
    assert high.tolist() == [0, 3, 18, 900]


@pytest.mark.parametrize("path", [{}, {"projector": "h_reducer", "compressor": "doc_compressor", "tiling": "grid_4"}])
def test_a_model_with_it_trains_saves_loads_and_generates(name, path, tmp_path):
    model, processor = a_model({"type": name, "min_tokens": 2}, **path)
    inputs = prompt(processor)
    length = inputs["input_ids"].shape[1]
    output = model(**inputs, labels=inputs["input_ids"])
    assert output.logits.shape[1] < length
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.multi_modal_projector.parameters())
    model.save_pretrained(tmp_path)
    loaded = LlavaSomForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.pruner == model.pruner
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    generated = loaded.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert torch.equal(generated[:, :length], inputs["input_ids"])
    assert generated.shape[1] == length + 3

"""Every registered tile pruner: a fixed minimum, the same page in any batch, no change when nothing is dropped."""

import dataclasses
from functools import cache

import pytest
import torch
from PIL import Image, ImageDraw

from llava_som.assembly import assemble
from llava_som.page_encoder import encode_pages
from llava_som.pruning import PRUNERS, build_pruner
from llava_som.pruning.base import TilePruner
from llava_som.tiling import TileGrid
from tests.tiny import DECODERS, VISION, tiny_tokenizer, user

NAMES = [name for name in PRUNERS.names() if issubclass(PRUNERS.get(name), TilePruner)]
C_ABSTRACTOR = {"type": "c_abstractor", "num_queries": 16}
PARTS = [  # projector, compressor, placement
    ("h_reducer", "none", "pre_v2t"),
    ("h_reducer", "none", "pre_v2t_group"),
    ("h_reducer", "doc_compressor", "pre_v2t_group"),
    ("h_reducer", "doc_compressor", "post_v2t"),
    ("mlp2x_gelu", "none", "pre_v2t"),
    ("mlp2x_gelu", "doc_compressor", "post_v2t"),
    ("c_abstractor", "none", "post_v2t"),
    ("c_abstractor", "doc_compressor", None),
]
EVERYTHING = 10**6


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=PARTS, ids=lambda parts: "-".join(map(str, parts)))
def parts(request):
    return request.param


@cache
def parts_of_a_model(projector="h_reducer", compressor="none", vision="clip"):
    torch.manual_seed(0)
    tower = VISION[vision] | ({} if vision == "timm" else {"image_size": 64})
    projector = C_ABSTRACTOR if projector == "c_abstractor" else projector
    model, processor = assemble(
        tower,
        DECODERS["llama"],
        tokenizer=tiny_tokenizer(),
        projector=projector,
        compressor=compressor,
        tiling="grid_4",
    )
    return model.eval(), processor


def pruned_model(name, *parts, placement=None, **options):
    """A model with a pruner that drops most of a page, unless told otherwise."""
    harsh = {"keep_ratio": 0.125, "max_keep_ratio": 0.125, "min_tokens": 2, "apply_to": "all", "placement": placement}
    fields = {field.name for field in dataclasses.fields(PRUNERS.get(name))}
    model, processor = parts_of_a_model(*parts)
    model.set_pruning({"type": name, **{key: harsh[key] for key in harsh if key in fields}, **options})
    return model, processor


def white_page(size=(64, 128)):
    return Image.new("RGB", size, "white")


def printed_page(size=(128, 64)):
    page = white_page(size)
    for line in range(4, size[1] // 2, 9):
        ImageDraw.Draw(page).text((4, line), "Invoice 2031, total 48.20 EUR", fill="black")
    return page


def tiles_of(processor, *pages):
    inputs = processor.image_processor(list(pages), return_tensors="pt")
    return inputs["pixel_values"], [TileGrid(rows, cols) for rows, cols in inputs["image_grids"].tolist()]


def encoded(model, processor, *pages):
    with torch.no_grad():
        return encode_pages(model, *tiles_of(processor, *pages))


def prompt(processor, *pages):
    return processor.apply_chat_template(
        [[user("Which total?", page)] for page in pages],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"padding": True, "padding_side": "left"},
    )


def test_tiles_lose_tokens_but_never_more_than_to_the_minimum(name, parts):
    model, processor = pruned_model(name, *parts[:2], placement=parts[2], min_tokens=3)
    tokens = encoded(model, processor, white_page(), printed_page())
    units = 64 if parts[2] == "pre_v2t" or parts[0] == "mlp2x_gelu" else 16
    assert tokens.choice.keep.shape == tokens.choice.scores.shape == (6, units)
    kept = tokens.choice.keep.sum(dim=1)
    assert kept.min() >= 3
    assert kept.sum() < 6 * units
    assert len(tokens.features) == tokens.keep.sum() < len(tokens.keep)
    assert tokens.features.isfinite().all()


def test_the_global_tile_is_spared_on_demand_and_only_it(name):
    model, processor = pruned_model(name, apply_to="crops")
    keep = encoded(model, processor, white_page(), printed_page()).choice.keep
    assert keep.all(dim=1).tolist() == [True, False, False, True, False, False]


def test_a_page_keeps_the_same_tokens_in_any_company(name, parts):
    model, processor = pruned_model(name, *parts[:2], placement=parts[2])
    pages = [printed_page(), white_page(), printed_page((64, 192))]
    alone = [encoded(model, processor, page) for page in pages]
    together = encoded(model, processor, *pages)
    assert torch.equal(together.keep, torch.cat([tokens.keep for tokens in alone]))
    torch.testing.assert_close(together.features, torch.cat([tokens.features for tokens in alone]), atol=1e-5, rtol=0)


def test_keeping_everything_is_the_model_without_a_pruner_bit_for_bit(name, parts):
    model, processor = pruned_model(name, *parts[:2], placement=parts[2], min_tokens=EVERYTHING)
    inputs = prompt(processor, printed_page(), white_page())
    with torch.no_grad():
        pruned = model(**inputs).logits
        model.set_pruning(None)
        assert torch.equal(pruned, model(**inputs).logits)


def test_a_ragged_batch_is_answered_like_its_samples(name):
    model, processor = pruned_model(name)
    pages = [printed_page(), white_page(), printed_page((64, 192))]
    batch = model.generate(**prompt(processor, *pages), max_new_tokens=6)
    for row, page in zip(batch, pages, strict=True):
        inputs = prompt(processor, page)
        single = model.generate(**inputs, max_new_tokens=6)[0, inputs["input_ids"].shape[1] :]
        assert row[-6:].tolist()[: len(single)] == single.tolist()


def test_encoder_and_projector_learn_through_what_is_left(name, parts):
    model, processor = pruned_model(name, *parts[:2], placement=parts[2])
    inputs = prompt(processor, printed_page())
    model.train()
    try:
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        trained = [
            model.multi_modal_projector,
            next(part for part in model.vision_tower.modules() if hasattr(part, "layers")),
        ]
        for part in trained:
            assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in part.parameters())
    finally:
        model.zero_grad()
        model.eval()


@pytest.mark.parametrize("vision", ["siglip", "dinov2", "dinov2_registers"])
def test_other_encoders_are_pruned_too(name, vision):
    model, processor = pruned_model(name, "h_reducer", "none", vision)
    tokens = encoded(model, processor, printed_page())
    assert 0 < len(tokens.features) < len(tokens.keep)


def test_without_attention_blocks_it_works_or_says_what_does(name):
    model, processor = pruned_model(name, "h_reducer", "none", "timm", min_tokens=1)
    if not build_pruner(model.config.pruning).layers():
        tokens = encoded(model, processor, printed_page())
        assert 0 < len(tokens.features) < len(tokens.keep)
    else:
        with pytest.raises(ValueError, match=r"no attention blocks.* blank_patch, uniform_stride or random"):
            encoded(model, processor, printed_page())


def test_it_is_saved_with_the_model(name, tmp_path):
    model, _ = pruned_model(name)
    model.config.save_pretrained(tmp_path)
    assert build_pruner(type(model.config).from_pretrained(tmp_path).pruning) == model.pruner

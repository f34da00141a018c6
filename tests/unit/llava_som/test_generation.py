"""Ways of calling `generate` that transformers allows: with images, and with a prompt that pruning has shortened."""

import pytest
import torch
from transformers import GenerationConfig

from tests.tiny import drawn_image, tiny_model, user

HALF = {"type": "uniform_stride", "keep_ratio": 0.5, "min_tokens": 1}
SHORT = [user("What?", drawn_image(1, (60, 30)))]
LONG = [user("And what are these two?", drawn_image(2, (30, 60)), drawn_image(3))]


def encode(processor, *conversations):
    return processor.apply_chat_template(
        list(conversations),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"padding": True, "padding_side": "left"},
    )


@pytest.fixture(params=[None, HALF], ids=["whole", "pruned"])
def parts(request):
    model, processor = tiny_model(tiling="grid_4", pruning=request.param)
    return model, processor, encode(processor, SHORT, LONG)


@pytest.mark.parametrize("given_as", ["options", "config", "the model's own config"])
def test_a_length_counts_the_prompt_as_it_was_given(parts, given_as):
    model, _, inputs = parts
    wanted = {"max_length": inputs["input_ids"].shape[1] + 4, "do_sample": False}
    wanted["min_length"] = wanted["max_length"]
    given = wanted if given_as == "options" else {}
    if given_as == "config":
        given = {"generation_config": GenerationConfig(**wanted)}
    elif not given:
        model.generation_config.update(**wanted)
        given = {"generation_config": GenerationConfig(use_cache=True)}
    sequences = model.generate(**inputs, **given)
    assert sequences.shape[1] == wanted["max_length"]
    assert torch.equal(sequences[:, :-4], inputs["input_ids"])


def test_what_is_inferred_is_what_could_have_been_given(parts):
    model, _, inputs = parts
    expected = model.generate(**inputs, max_new_tokens=6)
    mask = inputs.pop("attention_mask")
    assert torch.equal(model.generate(**inputs, max_new_tokens=6), expected)
    assert torch.equal(model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=6)), expected)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    given = {"attention_mask": mask, "position_ids": positions}
    assert torch.equal(model.generate(**inputs, **given, max_new_tokens=6), expected)


def test_a_conversation_goes_on_from_its_cache(parts):
    model, processor, _ = parts
    inputs = encode(processor, SHORT)
    images = {"pixel_values": inputs["pixel_values"], "image_grids": inputs["image_grids"]}
    first = model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True)
    more = processor.tokenizer("And now?", return_tensors="pt", add_special_tokens=False)["input_ids"]
    ids = torch.cat([first.sequences, more], dim=1)
    expected = model.generate(ids, **images, max_new_tokens=6)
    assert torch.equal(model.generate(ids, **images, past_key_values=first.past_key_values, max_new_tokens=6), expected)


def test_a_new_image_goes_into_a_conversation_that_has_one_in_its_cache(parts):
    model, processor, _ = parts
    inputs, second = encode(processor, SHORT), encode(processor, LONG)
    first = model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True)
    ids = torch.cat([first.sequences, second["input_ids"]], dim=1)
    images = {key: torch.cat([inputs[key], second[key]]) for key in ("pixel_values", "image_grids")}
    expected = model.generate(ids, **images, max_new_tokens=6)
    assert torch.equal(model.generate(ids, **images, past_key_values=first.past_key_values, max_new_tokens=6), expected)


def test_a_guess_from_the_prompt_is_no_image(parts):
    model, processor, _ = parts
    inputs = encode(processor, SHORT)
    expected = model.generate(**inputs, max_new_tokens=8)
    assert torch.equal(model.generate(**inputs, max_new_tokens=8, prompt_lookup_num_tokens=2), expected)


def test_an_answer_has_no_placeholder_in_it(parts):
    model, _, inputs = parts
    with torch.no_grad():
        model.language_model.lm_head.weight[model.config.image_token_id] *= 100
    options = {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 4, "use_cache": False}
    new = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    assert not (new == model.config.image_token_id).any()


def test_embeddings_with_images_in_place_are_a_prompt_too():
    model, processor = tiny_model(tiling="grid_4")
    inputs = encode(processor, SHORT)
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach()
    is_image = inputs["input_ids"] == model.config.image_token_id
    embeds[is_image] = torch.cat(
        model.get_image_features(inputs["pixel_values"], inputs["image_grids"]).pooler_output
    ).detach()
    options = {"max_new_tokens": 6, "suppress_tokens": [model.config.image_token_id]}
    expected = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(model.generate(inputs_embeds=embeds, **options), expected)
    for call in (model, model.generate):
        with pytest.raises(ValueError, match="leave pixel_values out"):
            call(inputs_embeds=embeds, pixel_values=inputs["pixel_values"])


@pytest.mark.parametrize("as_config", [False, True])
def test_a_prompt_with_images_is_read_in_one_piece(parts, as_config):
    model, _, inputs = parts
    given = {"prefill_chunk_size": 20}
    with pytest.raises(ValueError, match=r"prefill_chunk_size=20.* Leave it out"):
        model.generate(**inputs, **({"generation_config": GenerationConfig(**given)} if as_config else given))

"""MAM against decoders whose own weights are the twins' weights: what a position gets must be one or the other's."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from llava_som.assembly import assemble
from llava_som.auto import LlavaSomForConditionalGeneration
from llava_som.modality import TWINNED
from tests.tiny import VISION, drawn_image, tiny_model, tiny_tokenizer, user

PAGES = {"projector": {"type": "h_reducer", "eos": True}, "tiling": "grid_4"}
PAGES |= {"compressor": {"type": "doc_compressor", "heads": 4, "eos": True}}
QUESTIONS = [[user("What is 1?", drawn_image(1))], [user("And these two?", drawn_image(2), drawn_image(3, (90, 40)))]]


def encode(processor, conversations=QUESTIONS, padding_side="left"):
    options = {"padding": True, "padding_side": padding_side}
    return processor.apply_chat_template(
        conversations, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs=options
    )


def with_trained_twins(**options):
    """A model whose twins have gone their own way, and its processor."""
    model, processor = tiny_model(modality_adaptive=True, **options)
    torch.manual_seed(7)
    with torch.no_grad():
        for twin in model.vision_twins.parameters():
            twin += 0.3 * torch.randn_like(twin)
    return model, processor


@pytest.mark.parametrize("decoder", ["llama", "qwen2", "qwen3", "mistral", "gemma2"])
def test_switching_it_on_changes_nothing(decoder):
    plain, processor = tiny_model(decoder=decoder, **PAGES)
    adaptive, _ = tiny_model(decoder=decoder, modality_adaptive=True, **PAGES)
    later, _ = tiny_model(decoder=decoder, **PAGES)
    later.make_modality_adaptive()
    inputs = encode(processor)
    for model in (adaptive, later):
        assert model.config.modality_adaptive
        with torch.no_grad():
            assert torch.equal(model(**inputs).logits, plain(**inputs).logits)


@pytest.mark.parametrize("name", TWINNED)
def test_each_position_gets_the_weights_of_its_modality(name):
    model, processor = tiny_model(modality_adaptive=True, **PAGES)
    torch.manual_seed(3)
    short, layer = name.rpartition(".")[2], model.get_decoder().layers[0]
    twin = model.vision_twins[0][short]
    twin.weight.data = torch.randn_like(twin.weight)
    inputs, found = encode(processor), {}
    is_vision = (inputs["input_ids"] == model.config.image_token_id)[..., None]
    for kind in ("mixed", "text", "vision"):
        if kind != "mixed":  # the same model, the same weights for all positions
            model.vision_twins[0][short] = copy.deepcopy(layer.get_submodule(name))
        if kind == "vision":
            layer.get_submodule(name).weight.data = twin.weight.data
            model.vision_twins[0][short] = twin
        with torch.no_grad():
            out = model(**inputs, output_hidden_states=True, use_cache=True)
        cache = out.past_key_values.layers[0]
        found[kind] = [cache.keys.transpose(1, 2).flatten(2), cache.values.transpose(1, 2).flatten(2)]
        found[kind] += [out.hidden_states[1]]
    changed = {"k_proj": [0], "v_proj": [1], "input_layernorm": [0, 1], "post_attention_layernorm": [2]}[short]
    for part in changed:
        expected = torch.where(is_vision, found["vision"][part], found["text"][part])
        assert torch.equal(found["mixed"][part], expected)
        assert not torch.allclose(found["vision"][part], found["text"][part])


@pytest.mark.parametrize("pruning", [None, {"type": "random", "keep_ratio": 0.5}])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_is_the_same_with_a_cache_and_without_in_a_batch_and_alone(options, pruning):
    model, processor = with_trained_twins(**PAGES, pruning=pruning)
    options = {**options, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    batch = model.generate(**encode(processor), **options)[:, -6:]
    assert torch.equal(model.generate(**encode(processor), **options, use_cache=False)[:, -6:], batch)
    alone = [model.generate(**encode(processor, [question]), **options)[:, -6:] for question in QUESTIONS]
    assert torch.equal(torch.cat(alone), batch)
    plain, _ = tiny_model(**PAGES, pruning=pruning)
    inputs = encode(processor, QUESTIONS[:1])
    with torch.no_grad():
        assert not torch.allclose(model(**inputs).logits[:, -1], plain(**inputs).logits[:, -1], atol=1e-3)


def test_pruning_inside_the_decoder_takes_the_modality_of_each_token_along():
    model, processor = with_trained_twins(**PAGES, pruning={"type": "fastv", "layer": 1, "min_tokens": 1})
    inputs, options = encode(processor), {"max_new_tokens": 6, "min_new_tokens": 6}
    alone = [model.generate(**encode(processor, [question]), **options)[:, -6:] for question in QUESTIONS]
    assert torch.equal(model.generate(**inputs, **options)[:, -6:], torch.cat(alone))
    seen = []
    twin = model.vision_twins[1]["k_proj"]
    twin.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    model.generate(**inputs, **options)
    assert len(seen) == 1
    assert seen[0] < inputs["input_ids"].shape[1]


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padding_does_not_move_the_modalities(padding_side):
    model, processor = with_trained_twins(**PAGES)
    inputs = encode(processor, padding_side=padding_side)
    is_token = inputs["attention_mask"].bool()
    with torch.no_grad():
        batch = model(**inputs).logits
        for row, question in enumerate(QUESTIONS):
            alone = model(**encode(processor, [question])).logits[0]
            torch.testing.assert_close(batch[row][is_token[row]], alone, atol=1e-5, rtol=0)


def test_text_never_meets_the_twins():
    plain, processor = tiny_model(**PAGES)
    model, _ = with_trained_twins(**PAGES)
    inputs, hidden = encode(processor, [[user("Only words.")]]), torch.randn(1, 3, 32)
    projections = [part.get_decoder().layers[0].self_attn.k_proj for part in (model, plain)]
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
        model(**encode(processor))  # leaves nothing behind in the layers
        assert torch.equal(projections[0](hidden), projections[1](hidden))


def test_the_twins_run_once_in_the_prompt_and_not_in_decoding_steps():
    model, processor = with_trained_twins(**PAGES)
    runs = []
    model.vision_twins[1]["v_proj"].register_forward_hook(lambda *_: runs.append(1))
    model.generate(**encode(processor), max_new_tokens=5, min_new_tokens=5)
    assert len(runs) == 1


def gradients(model, batches):
    """Of the twins, when all batches go forward before any goes backward."""
    model.zero_grad()
    sum(model(**batch, labels=batch["input_ids"]).loss for batch in batches).backward()
    return {name: weight.grad for name, weight in model.vision_twins.named_parameters()}


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_repeats_each_batch_with_its_own_images(reentrant):
    model, processor = with_trained_twins(**PAGES)
    batches = [encode(processor, [question]) for question in QUESTIONS]
    expected = gradients(model.train(), batches)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert all(layer.gradient_checkpointing for layer in model.get_decoder().layers)
    for name, found in gradients(model.train(), batches).items():
        torch.testing.assert_close(found, expected[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("prompt", [QUESTIONS[0], [user("Only words.")]], ids=["image", "text"])
def test_both_modalities_are_touched_whatever_the_batch_holds(prompt):
    model, processor = with_trained_twins(**PAGES)
    inputs = encode(processor, [prompt])
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    for layer, twins in zip(model.get_decoder().layers, model.vision_twins, strict=True):
        for name, twin in twins.items():
            assert twin.weight.grad is not None
            assert layer.get_submodule(next(full for full in TWINNED if full.endswith(name))).weight.grad is not None
            assert bool(twin.weight.grad.abs().sum() > 0) == (
                "image" in [part["type"] for part in prompt[0]["content"]]
            )


def test_saved_loaded_and_copied(tmp_path):
    model, processor = with_trained_twins(**PAGES)
    model.save_pretrained(tmp_path)
    inputs = encode(processor)
    loaded = LlavaSomForConditionalGeneration.from_pretrained(tmp_path).eval()
    copied = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(**inputs).logits
        assert torch.equal(loaded(**inputs).logits, expected)
        copied.vision_twins[0]["k_proj"].weight.add_(1.0)
        assert torch.equal(model(**inputs).logits, expected)
        assert not torch.equal(copied(**inputs).logits, expected)


def test_adapters_of_the_modalities_do_not_mix_so_that_merging_them_changes_nothing():
    model, processor = with_trained_twins(**PAGES)
    inputs = encode(processor)
    layer = r"(language_model\.model\.layers|vision_twins)\.\d+\.(self_attn\.)?[kv]_proj"
    adapted = get_peft_model(model, LoraConfig(target_modules=layer, init_lora_weights=False))
    with torch.no_grad():
        expected = adapted(**inputs).logits
        torch.testing.assert_close(adapted.merge_and_unload()(**inputs).logits, expected, atol=1e-4, rtol=0)


def test_the_twins_of_a_pretrained_decoder_begin_as_its_weights(tmp_path):
    tiny_model(seed=5)[0].language_model.save_pretrained(tmp_path)
    model, _ = assemble(VISION["clip"], str(tmp_path), tokenizer=tiny_tokenizer(), modality_adaptive=True)
    for layer, twins in zip(model.get_decoder().layers, model.vision_twins, strict=True):
        assert torch.equal(layer.self_attn.k_proj.weight, twins["k_proj"].weight)
        assert layer.self_attn.k_proj.weight.data_ptr() != twins["k_proj"].weight.data_ptr()


def test_a_decoder_without_these_modules_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layer 0 of the decoder 'opt' has no input_layernorm, post_attention_layer"):
        tiny_model(decoder="opt", modality_adaptive=True)
    with pytest.raises(ValueError, match=r"layer 1 of the decoder 'minimax' has no self_attn\.k_proj"):
        tiny_model(decoder="minimax", modality_adaptive=True)


def test_embeddings_alone_do_not_say_where_images_are():
    model, _ = with_trained_twins()
    embeddings = torch.randn(1, 5, 32)
    with pytest.raises(ValueError, match=r"LlamaDecoderLayer .* give is_vision \(bool, \[B, L\]\)"):
        model(inputs_embeds=embeddings)
    is_vision = torch.tensor([[False, True, True, False, False]])
    with torch.no_grad():
        found = model(inputs_embeds=embeddings, is_vision=is_vision).logits
        assert not torch.allclose(found, model(inputs_embeds=embeddings, is_vision=~is_vision).logits, atol=1e-3)

import pytest
import torch

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration
from tests.tiny import DECODERS, VISION, assistant, drawn_image, tiny_model, user

CONVERSATIONS = [
    [user("What is tag 1?", drawn_image(1)), assistant("A red circle.")],
    [user("Hello, who are you?"), assistant("An assistant.")],
    [user("Which one is larger?", drawn_image(2), drawn_image(3)), assistant("The second.")],
]


def encode(processor, conversations, padding_side="right", **options):
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", **options}
    return processor.apply_chat_template(
        conversations, processor_kwargs={"padding": True, "padding_side": padding_side}, **options
    )


def prompts(conversations):
    return [conversation[:1] for conversation in conversations]


PAIRS = [("clip", decoder) for decoder in DECODERS] + [(vision, "llama") for vision in VISION if vision != "clip"]


@pytest.mark.parametrize(("vision", "decoder"), PAIRS)
def test_every_encoder_and_decoder_answers_a_mixed_batch_like_single_samples(vision, decoder):
    model, processor = tiny_model(vision, decoder)
    batch = model.generate(
        **encode(processor, prompts(CONVERSATIONS), "left", add_generation_prompt=True), max_new_tokens=6
    )
    for row, conversation in zip(batch, prompts(CONVERSATIONS), strict=True):
        inputs = encode(processor, [conversation], add_generation_prompt=True)
        single = model.generate(**inputs, max_new_tokens=6)[0, inputs["input_ids"].shape[1] :]
        assert row[-6:].tolist()[: len(single)] == single.tolist()


@pytest.mark.parametrize("decoder", ["llama", "qwen3", "mistral", "opt", "gemma2"])
def test_padding_on_either_side_gives_the_logits_of_the_single_sample(decoder):
    model, processor = tiny_model(decoder=decoder)
    alone = encode(processor, CONVERSATIONS[:1])
    length = alone["input_ids"].shape[1]
    with torch.no_grad():
        expected = model(**alone).logits[0]
        right = model(**encode(processor, CONVERSATIONS, "right")).logits[0, :length]
        left_inputs = encode(processor, CONVERSATIONS, "left")
        positions = (left_inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        left = model(**left_inputs, position_ids=positions).logits[0, -length:]
    torch.testing.assert_close(right, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(left, expected, atol=1e-5, rtol=0)


def test_decoding_with_a_cache_equals_decoding_without():
    model, processor = tiny_model()
    inputs = encode(processor, prompts(CONVERSATIONS), "left", add_generation_prompt=True)
    with_cache = model.generate(**inputs, max_new_tokens=8, use_cache=True)
    without = model.generate(**inputs, max_new_tokens=8, use_cache=False)
    assert with_cache.tolist() == without.tolist()


def test_the_picture_matters_and_lands_where_its_placeholder_is():
    model, processor = tiny_model()
    inputs = encode(processor, [[user("?", drawn_image(1), drawn_image(5))]])
    swapped = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    is_image = inputs["input_ids"] == model.config.image_token_id
    features = model.get_image_features(inputs["pixel_values"]).pooler_output
    embeds[is_image] = torch.cat(features)
    with torch.no_grad():
        logits = model(**inputs).logits
        torch.testing.assert_close(logits, model(inputs_embeds=embeds).logits)
        assert (logits - model(**swapped).logits).abs().max() > 1e-4


def test_a_wrong_number_of_image_tokens_names_both_numbers():
    model, processor = tiny_model()
    inputs = encode(processor, CONVERSATIONS[:1])
    with pytest.raises(ValueError, match=r"32 image tokens, the 1 image\(s\) give 16 features"):
        model(input_ids=inputs["input_ids"].repeat(2, 1), pixel_values=inputs["pixel_values"])
    with pytest.raises(ValueError, match="Give input_ids or inputs_embeds"):
        model()


def test_inputs_of_a_processor_that_cuts_otherwise_are_refused():
    (whole, whole_processor), (tiled, tiled_processor) = tiny_model(), tiny_model(tiling="grid_4")
    conversation = [[user("?", drawn_image(1, (60, 30)))]]
    with pytest.raises(ValueError, match=r"reads whole images \(tiling=None\), .* were given.* own processor"):
        whole(**encode(tiled_processor, conversation))
    with pytest.raises(ValueError, match=r"reads tiles .*image_grids.* are missing.* own processor"):
        tiled(**encode(whole_processor, conversation))


def test_positions_to_keep_are_refused_where_pruning_moves_them():
    model, processor = tiny_model(pruning={"type": "random", "min_tokens": 1})
    with pytest.raises(ValueError, match=r"logits_to_keep.* give a number"):
        model(**encode(processor, CONVERSATIONS), logits_to_keep=torch.tensor([3]))
    assert model(**encode(processor, CONVERSATIONS), logits_to_keep=2).logits.shape[1] == 2


def test_a_batch_without_images_leaves_the_loss_alone_and_reaches_the_vision_path():
    model, processor = tiny_model()
    inputs = encode(processor, CONVERSATIONS[1:2])
    labels = inputs["input_ids"]
    expected = model(**inputs, labels=labels).loss
    model.train()
    loss = model(**inputs, labels=labels).loss
    assert loss.item() == expected.item()
    loss.backward()
    projector = list(model.multi_modal_projector.parameters())
    encoder = [p for name, p in model.vision_tower.named_parameters() if "encoder.layers.0" in name]
    for parameter in projector + encoder:
        assert parameter.grad is not None
        assert parameter.grad.abs().max() == 0


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model, processor = tiny_model()
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        inputs = encode(processor, CONVERSATIONS)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_implementation_reaches_both_parts(attention):
    model, processor = tiny_model(attn_implementation=attention)
    assert model.vision_tower.config._attn_implementation == attention
    assert model.language_model.config._attn_implementation == attention
    reference, _ = tiny_model()
    inputs = encode(processor, CONVERSATIONS)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, reference(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("vision", "decoder"), [("clip", "llama"), ("timm", "qwen3"), ("siglip2", "minimax")])
def test_saved_and_loaded_through_the_auto_classes(tmp_path, vision, decoder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = tiny_model(vision, decoder)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    loaded_processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is LlavaSomForConditionalGeneration
    inputs = encode(loaded_processor, CONVERSATIONS)
    assert inputs["input_ids"].tolist() == encode(processor, CONVERSATIONS)["input_ids"].tolist()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_tied_embeddings_stay_tied(tmp_path):
    from llava_som.assembly import assemble
    from tests.tiny import tiny_tokenizer

    tied = {**DECODERS["llama"], "tie_word_embeddings": True}
    model, _ = assemble(VISION["clip"], tied, tokenizer=tiny_tokenizer())
    model.save_pretrained(tmp_path)
    loaded, report = LlavaSomForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight


def test_several_feature_layers_are_concatenated():
    model, processor = tiny_model(vision_feature_layer=[-3, -2])
    assert model.config.vision_width == 64
    assert model(**encode(processor, CONVERSATIONS)).logits.isfinite().all()


def test_config_errors_say_what_to_state():
    with pytest.raises(ValueError, match="text_config has no model_type"):
        LlavaSomConfig(text_config={"hidden_size": 8})
    with pytest.raises(ValueError, match="Did you mean 'mlp2x_gelu'"):
        _ = LlavaSomConfig(projector="mlp2x_gely").image_seq_length
    with pytest.raises(ValueError, match=r"State it as LlavaSomConfig\(num_prefix_tokens=\.\.\.\)"):
        LlavaSomConfig(vision_config={"model_type": "beit"})
    with pytest.raises(ValueError, match=r"vision_feature_layer=\[-2, 4\]: .* 0 .* to 3, or -1 to -4"):
        LlavaSomConfig(vision_config=VISION["clip"], vision_feature_layer=[-2, 4])
    with pytest.raises(ValueError, match=r"compressor=\{'heads': 4\}: has no type.* Names: complete_attention"):
        LlavaSomConfig(compressor={"heads": 4})
    with pytest.raises(ValueError, match=r"tiling=\[\[1, 2\]\]: is a family of grids .*grids="):
        LlavaSomConfig(tiling=[[1, 2]])
    with pytest.raises(ValueError, match="a timm tower has one feature map"):
        LlavaSomConfig(vision_config={"model_type": "timm_tower"}, vision_feature_layer=-2)
    stated = LlavaSomConfig(
        vision_config={"model_type": "beit", "image_size": 32, "patch_size": 8}, num_prefix_tokens=1
    )
    assert stated.image_seq_length == 16


def test_an_encoder_that_returns_another_grid_is_reported():
    model, processor = tiny_model()
    model.config.num_prefix_tokens = 3
    with pytest.raises(ValueError, match=r"returned 17 tokens .* 3 prefix \+ 4 x 4 patches = 19"):
        model(**encode(processor, CONVERSATIONS[:1]))


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}])
def test_every_beam_and_sample_of_a_row_sees_all_its_images(monkeypatch, options):
    model, processor = tiny_model()
    inputs = encode(processor, prompts(CONVERSATIONS), "left", add_generation_prompt=True)
    seen, embedded = [], model._embedded
    monkeypatch.setattr(model, "_embedded", lambda *given: (seen.append(given[1]), embedded(*given))[1])
    rows = model.generate(**inputs, max_new_tokens=3, **options)
    # Rows have one image, none, and two; only the prompt has any.
    one, two, three = model.get_image_features(inputs["pixel_values"]).pooler_output
    torch.testing.assert_close(seen[0], torch.cat([one] * 3 + [two, three] * 3))
    assert len(seen) > 1 and all(features is None for features in seen[1:])
    assert len(rows) == (9 if "do_sample" in options else 3)
    with pytest.raises(ValueError, match=r"48 image tokens, the 2 image\(s\) give 32 features"):
        model.generate(**{**inputs, "pixel_values": inputs["pixel_values"][:2]}, max_new_tokens=3, **options)


@pytest.mark.parametrize("vision", VISION)
def test_bfloat16_reaches_every_weight(vision):
    model, processor = tiny_model(vision, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model(**encode(processor, CONVERSATIONS)).logits.isfinite().all()


def test_a_text_only_step_in_float16_does_not_overflow():
    model, processor = tiny_model(dtype=torch.float16)
    torch.nn.init.constant_(model.multi_modal_projector.linear_2.bias, 300.0)  # 16 x 32 of them sum beyond 65504
    inputs = encode(processor, CONVERSATIONS[1:2])
    assert model.train()(**inputs, labels=inputs["input_ids"]).loss.isfinite()


def test_a_lora_adapter_with_the_projector_is_saved_loaded_and_merged(tmp_path):
    import peft

    layers = {"target_modules": r".*language_model.*(q_proj|v_proj)", "modules_to_save": ["multi_modal_projector"]}
    model, processor = tiny_model()
    inputs = encode(processor, CONVERSATIONS)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, **layers))
    with torch.no_grad():
        before = adapted(**inputs).logits
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        expected = adapted.eval()(**inputs).logits
        adapted.save_pretrained(tmp_path)
        loaded = peft.PeftModel.from_pretrained(tiny_model()[0], tmp_path)
        assert (expected - before).abs().max() > 1e-3
        assert torch.equal(loaded(**inputs).logits, expected)
        torch.testing.assert_close(loaded.merge_and_unload()(**inputs).logits, expected, atol=1e-5, rtol=0)

"""Parity with transformers on checkpoints in their real file layouts, written with tiny random weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
    SiglipVisionConfig,
)

from llava_som.checkpoints import checkpoint_format, export_llava, load_checkpoint
from llava_som.checkpoints.llava_1_5 import local_folder
from tests.tiny import DECODERS, VISION, assistant, drawn_image, tiny_model, tiny_tokenizer, user

PROMPT = [user("What is tag 1?", drawn_image(1)), assistant("A cup."), user("And tag 2?", drawn_image(2))]
SIZE = {"height": 32, "width": 32}


def without_type(config):
    return {key: value for key, value in config.items() if key != "model_type"}


def write_llava_hf(folder, vision="clip", strategy="default", tied=False):
    """A tiny llava-hf checkpoint, written by transformers itself."""
    torch.manual_seed(0)
    vision_config = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}[vision](**without_type(VISION[vision]))
    tokenizer = tiny_tokenizer()
    config = LlavaConfig(
        vision_config=vision_config,
        text_config=LlamaConfig(vocab_size=576, tie_word_embeddings=tied, **without_type(DECODERS["llama"])),
        tie_word_embeddings=tied,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16 + (vision == "clip" and strategy == "full"),
        vision_feature_select_strategy=strategy,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    _, ours = tiny_model()
    LlavaProcessor(
        LlavaImageProcessor(do_center_crop=False, size=SIZE),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=int(vision == "clip"),
        chat_template=ours.chat_template,
    ).save_pretrained(folder)
    return folder


def write_llava_1_5(folder, projector="mlp2x_gelu", with_tower=True, suffix="safetensors"):
    """The original layout: a flat Llama config with mm_ fields, `model.mm_projector.*`, `model.vision_tower.*`."""
    model, _ = tiny_model(projector=projector)
    tower_folder = folder / "clip"
    model.vision_tower.save_pretrained(tower_folder)
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("vision_tower."):
            if with_tower:
                weights[f"model.vision_tower.vision_tower.vision_model.{name.removeprefix('vision_tower.')}"] = value
        elif name.startswith("multi_modal_projector."):
            layer = name.removeprefix("multi_modal_projector.").replace("linear_1", "0").replace("linear_2", "2")
            weights[f"model.mm_projector.{layer.removeprefix('linear.')}"] = value
        else:
            weights[name.removeprefix("language_model.")] = value
    weights = {name: value.clone() for name, value in weights.items()}
    if suffix == "safetensors":
        save_file(weights, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model-00001-of-00001.bin")
    text = model.config.text_config
    config = {key: getattr(text, key) for key in [*without_type(DECODERS["llama"]), "vocab_size", "rms_norm_eps"]}
    config |= {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "clip"}
    config |= {"mm_projector_type": projector, "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch"}
    (folder / "config.json").write_text(json.dumps(config))
    tiny_tokenizer().save_pretrained(folder)
    return model


def rewrite(folder, change):
    """Change the weight file of a checkpoint in place."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(("vision", "strategy"), [("clip", "default"), ("clip", "full"), ("siglip", "full")])
def test_llava_hf_gives_the_logits_and_the_answer_of_transformers(tmp_path, vision, strategy):
    folder = write_llava_hf(tmp_path, vision, strategy)
    theirs = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    ours, processor = load_checkpoint(folder)
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = AutoProcessor.from_pretrained(folder).apply_chat_template(PROMPT, **options)
    our_inputs = processor.apply_chat_template(PROMPT, **options)
    assert torch.equal(our_inputs["input_ids"], inputs["input_ids"])
    assert torch.equal(our_inputs["pixel_values"], inputs["pixel_values"])
    with torch.no_grad():
        torch.testing.assert_close(ours(**inputs).logits, theirs(**inputs).logits, atol=1e-5, rtol=0)
    assert torch.equal(ours.generate(**inputs, max_new_tokens=12), theirs.generate(**inputs, max_new_tokens=12))


@pytest.mark.parametrize(("vision", "strategy"), [("clip", "default"), ("siglip", "full")])
def test_llava_hf_takes_a_pruner(tmp_path, vision, strategy):
    folder = write_llava_hf(tmp_path, vision, strategy)
    whole, processor = load_checkpoint(folder)
    pruned, _ = load_checkpoint(folder, pruning={"type": "uniform_stride", "keep_ratio": 0.5, "min_tokens": 1})
    inputs = processor.apply_chat_template(PROMPT, tokenize=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        dropped = whole(**inputs).logits.shape[1] - pruned(**inputs).logits.shape[1]
    assert dropped == whole.config.image_seq_length // 2 * len(inputs["pixel_values"])


@pytest.mark.parametrize(
    ("projector", "with_tower", "suffix"),
    [("mlp2x_gelu", True, "safetensors"), ("mlp2x_gelu", False, "bin"), ("linear", True, "bin")],
)
def test_the_original_llava_1_5_layout(tmp_path, projector, with_tower, suffix):
    original = write_llava_1_5(tmp_path, projector, with_tower, suffix)
    loaded, processor = load_checkpoint(tmp_path)
    inputs = processor.apply_chat_template(PROMPT, tokenize=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, original(**inputs).logits, atol=1e-5, rtol=0)


def test_an_original_tokenizer_without_the_image_token_gets_a_row_that_is_never_predicted(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = write_llava_1_5(tmp_path)
    vocabulary = {f"w{i}": i for i in range(model.config.text_config.vocab_size)}
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0")), eos_token="w1", bos_token="w2"
    )
    for file in tmp_path.glob("token*"):
        file.unlink()
    bare.save_pretrained(tmp_path)
    loaded, processor = load_checkpoint(tmp_path)
    old_rows = len(vocabulary)
    assert processor.image_token_id == loaded.config.image_token_id == old_rows
    head = loaded.get_output_embeddings().weight
    assert head.shape[0] % 64 == 0
    torch.testing.assert_close(head[old_rows], head[:old_rows].mean(0))
    assert loaded.config.text_config.vocab_size == head.shape[0]


@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_export_loads_in_transformers_with_equal_logits(tmp_path, vision):
    model, processor = tiny_model(vision)
    export_llava(model, processor, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llava"
    plain = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = AutoProcessor.from_pretrained(tmp_path).apply_chat_template(PROMPT, **options)
    assert torch.equal(inputs["input_ids"], processor.apply_chat_template(PROMPT, **options)["input_ids"])
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"projector": "linear"}, "projector 'linear'"),
        ({"vision": "timm"}, "vision encoder 'timm_tower'"),
        ({"vision": "dinov2_registers"}, "5 dropped prefix tokens"),
        ({"decoder": "gemma2"}, "final_logit_softcapping=5.0"),
    ],
)
def test_what_plain_llava_cannot_express_is_named(tmp_path, options, named):
    with pytest.raises(ValueError, match=named):
        export_llava(*tiny_model(**options), tmp_path)


@pytest.mark.parametrize("write", [write_llava_hf, write_llava_1_5])
def test_missing_and_unexpected_weights_are_errors_that_list_them(tmp_path, write):
    write(tmp_path)
    removed = []

    def change(weights):
        removed.append(next(name for name in weights if "v_proj.weight" in name and "layers.1" in name))
        del weights[removed[0]]
        weights["surplus.weight"] = torch.zeros(1)

    rewrite(tmp_path, change)
    with pytest.raises(ValueError, match="missing: ") as error:
        load_checkpoint(tmp_path)
    assert removed[0].rpartition("layers.1.")[2] in str(error.value)
    assert "unexpected: " in str(error.value)
    assert "surplus.weight" in str(error.value)


def test_ours_with_a_missing_weight_is_an_error_too(tmp_path):
    model, processor = tiny_model()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path)[0].config.projector == {"type": "mlp2x_gelu"}
    rewrite(tmp_path, lambda weights: weights.pop("multi_modal_projector.linear_1.weight"))
    with pytest.raises(ValueError, match=r"missing: multi_modal_projector\.linear_1\.weight"):
        load_checkpoint(tmp_path)


def test_the_format_is_read_from_the_config_alone(tmp_path):
    assert checkpoint_format({"model_type": "llava_som"}) == "llava_som"
    assert checkpoint_format({"model_type": "llava", "text_config": {}}) == "llava_hf"
    assert checkpoint_format({"model_type": "llava", "mm_vision_tower": "x"}) == "llava_1.5"
    with pytest.raises(ValueError, match="model_type='bert'"):
        checkpoint_format({"model_type": "bert"})
    with pytest.raises(ValueError, match=r"v1.5-7b: no config\.json"):
        load_checkpoint(tmp_path / "llava-v1.5-7b")


def write_ours(folder):
    for part in tiny_model():
        part.save_pretrained(folder)


@pytest.mark.parametrize("write", [write_ours, write_llava_hf, write_llava_1_5])
def test_attention_and_dtype_reach_both_parts_of_every_format(tmp_path, write):
    write(tmp_path)
    model, _ = load_checkpoint(tmp_path, dtype=torch.bfloat16, attn_implementation="eager")
    for part in (model.vision_tower, model.language_model.get_decoder()):
        assert part.config._attn_implementation == "eager"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("tied", [False, True])
def test_the_older_weight_names_of_the_hub_load(tmp_path, tied):
    """`language_model.model.*`, `language_model.lm_head.*` and `vision_tower.vision_model.*`, as in llava-1.5-7b-hf."""
    plain = LlavaForConditionalGeneration.from_pretrained(write_llava_hf(tmp_path, tied=tied)).eval()
    prefixes = {"model.vision_tower.": "vision_tower.vision_model.", "lm_head.": "language_model.lm_head."}
    prefixes |= {"model.language_model.": "language_model.model.", "model.": ""}
    weights = {}
    for name, value in plain.state_dict().items():
        new, old = next((new, old) for new, old in prefixes.items() if name.startswith(new))
        if not (tied and name == "lm_head.weight"):
            weights[old + name.removeprefix(new)] = value.clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours, processor = load_checkpoint(tmp_path)
    inputs = processor.apply_chat_template(PROMPT, tokenize=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(ours(**inputs).logits, plain(**inputs).logits)
    assert (ours.get_input_embeddings().weight is ours.get_output_embeddings().weight) == tied


def test_shards_are_joined_and_an_exported_import_is_the_original(tmp_path):
    plain = LlavaForConditionalGeneration.from_pretrained(write_llava_hf(tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "shards")
    (tmp_path / "shards/model.safetensors").unlink()
    plain.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    export_llava(*load_checkpoint(tmp_path / "shards"), tmp_path / "back")
    back = load_file(tmp_path / "back/model.safetensors")
    whole = load_file(tmp_path / "whole/model.safetensors")
    assert back.keys() == whole.keys()
    assert all(torch.equal(back[name], whole[name]) for name in whole)


def change_config(folder, **fields):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "llava_mistral"}, "its decoder is not Llama"),
        ({"mm_use_im_start_end": True}, "tokens around each image"),
        ({"image_aspect_ratio": "anyres"}, "tiles, LLaVA-1.6"),
    ],
)
def test_relatives_of_llava_1_5_are_refused(tmp_path, fields, said):
    write_llava_1_5(tmp_path)
    change_config(tmp_path, **fields)
    with pytest.raises(ValueError, match=said):
        load_checkpoint(tmp_path)


def test_an_original_checkpoint_gets_the_pixels_it_was_trained_on(tmp_path):
    write_llava_1_5(tmp_path)
    picture = drawn_image(1, (64, 40))

    def pixels():
        return load_checkpoint(tmp_path)[1].image_processor(picture, return_tensors="pt")["pixel_values"]

    clip = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    torch.testing.assert_close(pixels(), clip(picture, return_tensors="pt")["pixel_values"])
    change_config(tmp_path, image_aspect_ratio="pad")
    padded = pixels()
    assert padded.shape == (1, 3, 32, 32)
    assert padded[0, :, 0].abs().max() < 0.02  # the mean colour, normalised


def test_an_original_checkpoint_of_the_hub_is_fetched(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: (asked.append(name), str(tmp_path))[1])
    assert local_folder("liuhaotian/llava-v1.5-7b") == local_folder(tmp_path) == tmp_path
    assert asked == ["liuhaotian/llava-v1.5-7b"]


def test_a_wrong_pruner_is_said_before_weights_are_read(tmp_path):
    model, _ = tiny_model()
    model.config.save_pretrained(tmp_path)  # and no weights, which would be another error
    with pytest.raises(ValueError, match="Did you mean 'visionzip'"):
        load_checkpoint(tmp_path, pruning="visonzip")

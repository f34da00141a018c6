"""DocOwl's layouts, written here by hand under the published names; expected values come from code of their own."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from llava_som.checkpoints import checkpoint_format, convert_checkpoint, load_checkpoint, rename_docowl
from llava_som.compressors.base import ProjectedTiles
from llava_som.compressors.doc_compressor import DocCompressor
from llava_som.processing import LlavaSomProcessor
from llava_som.projectors.h_reducer import HReducer
from llava_som.tiling import TileGrid
from llava_som.vision.features import encode_images
from tests.tiny import assistant, drawn_image, user

FIXTURES = Path(__file__).parents[2] / "fixtures"
WIDTH, HEADS, VOCAB = 32, 4, 360
VISION = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": HEADS}
VISION |= {
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
    "hidden_act": "quick_gelu",
    "use_flash_attn": False,
}
TEXT = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 4, "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048}
COMPRESSOR = {"layer": 2, "high_reso_cross_num_att_heads": HEADS, "high_reso_cross_hid_size": WIDTH}
PAGES = [user("What is this paper about?", drawn_image(1, (30, 60)), drawn_image(2, (64, 64))), assistant("It is.")]


def linear(name, out, into):
    return {f"{name}.weight": torch.randn(out, into) / into**0.5, f"{name}.bias": 0.1 * torch.randn(out)}


def norm(name, width=WIDTH):
    return {f"{name}.weight": 1 + 0.2 * torch.randn(width), f"{name}.bias": 0.1 * torch.randn(width)}


def vision_weights():
    weights = {"embeddings.cls_token": torch.randn(1, 1, WIDTH), **norm("embeddings.pre_layernorm")}
    weights |= {"embeddings.position_embedding": torch.randn(1, 17, WIDTH), **norm("post_layernorm")}
    weights |= {"embeddings.patch_embed.weight": torch.randn(WIDTH, 3, 8, 8) / 14}
    for layer in (f"encoder.layers.{number}" for number in range(2)):
        weights |= norm(f"{layer}.input_layernorm") | norm(f"{layer}.post_attention_layernorm")
        weights |= linear(f"{layer}.self_attn.query_key_value", 3 * WIDTH, WIDTH)
        weights |= linear(f"{layer}.self_attn.dense", WIDTH, WIDTH)
        weights |= linear(f"{layer}.mlp.fc1", 48, WIDTH) | linear(f"{layer}.mlp.fc2", WIDTH, 48)
    return weights


def reducer_weights():
    weights = linear("visual_fc", WIDTH, WIDTH) | norm("ln_q") | {"vit_eos": torch.randn(1, 1, WIDTH)}
    for name, out in (("reducer_before.0", 4 * WIDTH), ("reducer", WIDTH)):
        weights |= {f"{name}.weight": torch.randn(out, WIDTH, 1, 4) / 11, f"{name}.bias": 0.1 * torch.randn(out)}
    return weights


def compressor_weights():
    weights = linear("compressor_fc", WIDTH, WIDTH) | {"compressor_eos": torch.randn(1, 1, WIDTH)}
    for layer in (f"compressor_crossatt.layers.{number}" for number in range(2)):
        for name in ("attention.query", "attention.key", "attention.value", "output.out_proj"):
            weights |= linear(f"{layer}.{name}", WIDTH, WIDTH)
        weights |= norm(f"{layer}.norm1") | norm(f"{layer}.normk") | norm(f"{layer}.output.norm2")
        weights |= linear(f"{layer}.output.mlp.w1", 256, WIDTH) | linear(f"{layer}.output.mlp.w3", 256, WIDTH)
        weights |= linear(f"{layer}.output.mlp.w2", WIDTH, 256) | norm(f"{layer}.output.mlp.ffn_ln", 256)
    return weights


def decoder_weights():
    weights = {"model.embed_tokens.weight": torch.randn(VOCAB, WIDTH), "lm_head.weight": torch.randn(VOCAB, WIDTH) / 6}
    weights |= {"model.norm.weight": 1 + 0.2 * torch.randn(WIDTH)}
    for layer in (f"model.layers.{number}" for number in range(2)):
        weights[f"{layer}.self_attn.rotary_emb.inv_freq"] = torch.randn(4)
        for name in (
            "q_proj",
            "o_proj",
            "k_proj.multiway.0",
            "k_proj.multiway.1",
            "v_proj.multiway.0",
            "v_proj.multiway.1",
        ):
            weights[f"{layer}.self_attn.{name}.weight"] = torch.randn(WIDTH, WIDTH) / 6
        for name, shape in {"gate": (48, WIDTH), "up": (48, WIDTH), "down": (WIDTH, 48)}.items():
            weights[f"{layer}.mlp.{name}_proj.weight"] = torch.randn(shape) / 6
        for name in ("input_layernorm", "post_attention_layernorm"):
            for way in (0, 1):
                weights[f"{layer}.{name}.multiway.{way}.weight"] = 1 + 0.2 * torch.randn(WIDTH)
    return weights


def write_docowl(folder, version="docowl_2", **visual):
    """A tiny checkpoint as published, its tokenizer a bare `tokenizer.model`; returns its weights."""
    torch.manual_seed(0)
    visual = {"visual_model": VISION, "visual_hreducer": {"conv_shape": "1x4", "hidden_size": WIDTH}} | visual
    weights = decoder_weights() | {f"model.vision_model.{name}": value for name, value in vision_weights().items()}
    weights |= {f"model.vision2text.{name}": value for name, value in reducer_weights().items()}
    if version == "docowl_2":
        weights |= {f"model.hr_compressor.{name}": value for name, value in compressor_weights().items()}
        visual = {"visual_hrcompressor": COMPRESSOR} | visual
    save_file(weights, folder / "model.safetensors")
    code = {"AutoConfig": "configuration_mplug_docowl.MPLUGDocOwlConfig"}
    config = {"model_type": "mplug_docowl", "auto_map": code, "visual_config": visual, **TEXT}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(FIXTURES / "docowl_tokenizer.model", folder / "tokenizer.model")
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return weights


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def published_vision(weights, pixels):
    """The published encoder: query, key and value of a head stand together in the rows of one fused layer."""

    def at(name):
        return [weights[f"{name}.{leaf}"] for leaf in ("weight", "bias") if f"{name}.{leaf}" in weights]

    def layer_norm(hidden, name):
        return F.layer_norm(hidden, (WIDTH,), *at(name), eps=1e-6)

    patches = F.conv2d(pixels, *at("embeddings.patch_embed"), stride=8).flatten(2).transpose(1, 2)
    hidden = torch.cat([weights["embeddings.cls_token"].expand(len(pixels), 1, WIDTH), patches], dim=1)
    hidden = layer_norm(hidden + weights["embeddings.position_embedding"], "embeddings.pre_layernorm")
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        fused = F.linear(layer_norm(hidden, f"{layer}.input_layernorm"), *at(f"{layer}.self_attn.query_key_value"))
        heads = []
        for rows in fused.split(3 * WIDTH // HEADS, dim=-1):
            query, key, value = rows.split(WIDTH // HEADS, dim=-1)
            heads.append((query @ key.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(dim=-1) @ value)
        hidden = hidden + F.linear(torch.cat(heads, dim=-1), *at(f"{layer}.self_attn.dense"))
        inner = F.linear(layer_norm(hidden, f"{layer}.post_attention_layernorm"), *at(f"{layer}.mlp.fc1"))
        hidden = hidden + F.linear(inner * torch.sigmoid(1.702 * inner), *at(f"{layer}.mlp.fc2"))
    return layer_norm(hidden, "post_layernorm")[:, 1:]


@pytest.mark.parametrize("prefix", ["", "vision2text.", "model.vision2text."])
def test_an_h_reducer_computes_what_the_published_one_computed(prefix):
    recorded = load_file(FIXTURES / "hreducer_reference.safetensors")
    for case, (width, text_width) in {"0": (16, 24), "1": (32, 48)}.items():
        start = f"{case}.weight."
        theirs = {
            prefix + name.removeprefix(start): value for name, value in recorded.items() if name.startswith(start)
        }
        module = HReducer(width, text_width, eos=True)
        module.load_state_dict(rename_docowl(theirs))
        found = module(recorded[f"{case}.input"][:, 1:])  # theirs drops the class token itself
        torch.testing.assert_close(found, recorded[f"{case}.expected"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix", ["", "hr_compressor.", "model.hr_compressor."])
def test_a_compressor_computes_what_the_published_one_computed(prefix):
    recorded = load_file(FIXTURES / "doccompressor_reference.safetensors")
    theirs = {prefix + name[9:]: value for name, value in recorded.items() if name.startswith("0.weight.")}
    module = DocCompressor(32, heads=4, eos=True)
    module.load_state_dict(rename_docowl(theirs))
    found, _ = module(ProjectedTiles(recorded["0.input"], [TileGrid(1, 1), TileGrid(2, 3)], (4, 2)))
    torch.testing.assert_close(found.view_as(recorded["0.expected"]), recorded["0.expected"], atol=1e-4, rtol=0)


def test_what_cannot_be_renamed_is_said():
    with pytest.raises(ValueError, match=r"no parameters of mPLUG-DocOwl.*\n  abstractor\.x\n  lora_A\.weight"):
        rename_docowl({**reducer_weights(), "lora_A.weight": torch.ones(1), "abstractor.x": torch.ones(1)})
    with pytest.raises(ValueError, match=r"vision2text\.reducer\.weight: its kernel covers 2x2 patches"):
        rename_docowl({"vision2text.reducer.weight": torch.ones(4, 4, 2, 2)})
    fused = {"vision_model.encoder.layers.0.self_attn.query_key_value.bias": torch.ones(48)}
    with pytest.raises(ValueError, match=r"48 rows are not query, key and value of 5 heads"):
        rename_docowl(fused, num_heads=5)


@pytest.mark.parametrize("version", ["docowl_1.5", "docowl_2"])
def test_the_vision_encoder_of_both_layouts(tmp_path, version):
    weights = write_docowl(tmp_path, version)
    assert checkpoint_format(json.loads((tmp_path / "config.json").read_text())) == version
    model, _ = load_checkpoint(tmp_path)
    pixels = torch.randn(3, 3, 32, 32)
    tower = {name[19:]: value for name, value in weights.items() if name.startswith("model.vision_model.")}
    config = model.config
    with torch.no_grad():
        found = encode_images(
            model.vision_tower, pixels, config.vision_feature_layer, config.token_grid, False, config.vision_final_norm
        )
    torch.testing.assert_close(found, published_vision(tower, pixels), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", [0, 1])
def test_each_way_of_the_decoder_is_a_plain_llama(tmp_path, way):
    weights = write_docowl(tmp_path)
    model, _ = load_checkpoint(tmp_path)
    plain = LlamaForCausalLM(LlamaConfig(**TEXT)).eval()
    own = {name.replace(f".multiway.{way}.", "."): value for name, value in weights.items()}
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    embeddings = torch.randn(2, 9, WIDTH)
    with torch.no_grad():
        found = model(inputs_embeds=embeddings, is_vision=torch.full((2, 9), bool(way))).logits
        torch.testing.assert_close(found[..., :VOCAB], plain(inputs_embeds=embeddings).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("version", "first", "second"),
    [
        (
            "docowl_1.5",
            "<global_img>{i}<crop_img_row0_col0>{i}<crop_img_row1_col0>{i}",
            "<global_img>{i}" + "".join(f"<crop_img_row{row}_col{col}>{{i}}" for row in (0, 1) for col in (0, 1)),
        ),
        ("docowl_2", "<img 1>{i}", "<img 2>{i}"),
    ],
)
def test_the_prompt_is_that_of_training(tmp_path, version, first, second):
    write_docowl(tmp_path, version)
    model, processor = load_checkpoint(tmp_path)
    ids = processor.apply_chat_template(PAGES, tokenize=True, return_dict=True)["input_ids"][0]
    prompt = f"USER: {first}{second}What is this paper about? ASSISTANT: It is.</s>"
    expected = [processor.tokenizer.bos_token_id]  # theirs encodes the text between images piece by piece
    for number, piece in enumerate(prompt.split("{i}")):
        expected += [model.config.image_token_id] * 5 if number else []
        expected += processor.tokenizer(piece, add_special_tokens=False)["input_ids"]
    assert ids == expected


@pytest.mark.parametrize("version", ["docowl_1.5", "docowl_2"])
def test_it_answers_and_survives_conversion_to_our_format(tmp_path, version):
    write_docowl(tmp_path, version)
    model, processor = load_checkpoint(tmp_path)
    convert_checkpoint(tmp_path, tmp_path / "ours", dtype="float32")
    ours, our_processor = load_checkpoint(tmp_path / "ours")
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = processor.apply_chat_template(PAGES[:1], **options)
    assert torch.equal(our_processor.apply_chat_template(PAGES[:1], **options)["input_ids"], inputs["input_ids"])
    assert isinstance(our_processor, LlavaSomProcessor)
    with torch.no_grad():
        assert torch.equal(ours(**inputs).logits, model(**inputs).logits)
    assert torch.equal(ours.generate(**inputs, max_new_tokens=5), model.generate(**inputs, max_new_tokens=5))
    with pytest.raises(ValueError, match=r"h_reducer.* tiling=.*; vision_final_norm=True; modality_adaptive=True"):
        convert_checkpoint(tmp_path, tmp_path / "plain", to="llava", dtype="float32")


def test_a_page_of_docowl_1_5_is_longer_than_its_config_says(tmp_path):
    write_docowl(tmp_path, "docowl_1.5")
    assert load_checkpoint(tmp_path)[0].config.text_config.max_position_embeddings == 4096


def test_a_weight_that_is_missing_or_left_over_is_named(tmp_path):
    write_docowl(tmp_path)
    rewrite(tmp_path, lambda weights: weights.pop("model.layers.1.self_attn.k_proj.multiway.1.weight"))
    with pytest.raises(ValueError, match=r"missing: vision_twins\.1\.k_proj\.weight"):
        load_checkpoint(tmp_path)
    write_docowl(tmp_path)
    rewrite(tmp_path, lambda weights: weights.update({"model.layers.0.abstractor.weight": torch.ones(1)}))
    with pytest.raises(ValueError, match=r"\n  model\.layers\.0\.abstractor\.weight"):
        load_checkpoint(tmp_path)


def test_a_compressor_that_ours_cannot_express_is_refused(tmp_path):
    write_docowl(tmp_path, visual_hrcompressor=COMPRESSOR | {"layer_norm_eps": 1e-5, "high_reso_cross_hid_size": 64})
    with pytest.raises(ValueError, match=r"high_reso_cross_hid_size=64 \(the .* is 32\); layer_norm_eps=1e-05"):
        load_checkpoint(tmp_path)


def test_mplug_owl2_is_not_taken_for_docowl():
    config = {"model_type": "mplug_owl2", "visual_config": {"visual_model": {}, "visual_abstractor": {}}}
    with pytest.raises(ValueError, match=r"model_type='mplug_owl2'.*DocOwl 1\.5 and DocOwl2"):
        checkpoint_format(config)

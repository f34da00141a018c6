"""Tiny models of real classes with random weights, and a byte-level BPE tokenizer trained on a few sentences."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from llava_som.assembly import assemble
from llava_som.auto import LlavaSomForConditionalGeneration, LlavaSomProcessor

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"]
SPECIAL_TOKENS += ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CORPUS = [
    "A chat between a curious user and an artificial intelligence assistant. USER: ASSISTANT: system user assistant",
    "1. red circle\n2. blue square\n3. green triangle\n4. yellow star\n5. white cross",
    "List the tagged items one by one. What does each number mark in this picture?",
]

VISION: dict[str, dict[str, Any]] = {
    "clip": {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
             "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
    "siglip": {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
               "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
    "siglip2": {"model_type": "siglip2_vision_model", "hidden_size": 32, "intermediate_size": 64,
                "num_hidden_layers": 3, "num_attention_heads": 4, "num_patches": 16, "patch_size": 8},  # NaFlex
    "dinov2": {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
               "image_size": 32, "patch_size": 8},
    "dinov2_registers": {"model_type": "dinov2_with_registers", "hidden_size": 32, "num_hidden_layers": 3,
                         "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "num_register_tokens": 4},
    "timm": {"model_type": "timm_tower", "architecture": "convnext_atto", "image_size": 64, "stride": 16},
}  # fmt: skip

_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **_TEXT},
    "qwen2": {"model_type": "qwen2", **_TEXT},
    "qwen3": {"model_type": "qwen3", "head_dim": 8, **_TEXT},
    "mistral": {"model_type": "mistral", **_TEXT},
    "minimax": {"model_type": "minimax", "head_dim": 8, "num_local_experts": 2, "block_size": 16, **_TEXT},
    "gemma2": {"model_type": "gemma2", "head_dim": 8, "final_logit_softcapping": 5.0, **_TEXT},
    "opt": {"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "word_embed_proj_dim": 32, "max_position_embeddings": 512},
}  # fmt: skip


@cache
def _bpe() -> Tokenizer:
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet)
    )
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return bpe


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer that adds a leading <s>, as Llama's does."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bpe().to_str()),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        additional_special_tokens=SPECIAL_TOKENS[3:],
    )


def tiny_model(
    vision: str = "clip", decoder: str = "llama", chat_template: str = "vicuna", seed: int = 0, **options: Any
) -> tuple[LlavaSomForConditionalGeneration, LlavaSomProcessor]:
    """A freshly initialised model in eval mode, and its processor."""
    torch.manual_seed(seed)
    model, processor = assemble(
        VISION[vision], DECODERS[decoder], tokenizer=tiny_tokenizer(), chat_template=chat_template, **options
    )
    return model.eval(), processor


def drawn_image(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A small picture that differs with the seed."""
    image = Image.new("RGB", size, ((37 * seed) % 256, (91 * seed + 40) % 256, (53 * seed + 90) % 256))
    ImageDraw.Draw(image).ellipse([4, 4, 20 + seed % 9, 24], fill=((seed * 71) % 256, 200, 30))
    return image


def user(text: str, *images: Image.Image) -> dict[str, Any]:
    """A user turn with its images first."""
    return {
        "role": "user",
        "content": [*({"type": "image", "image": i} for i in images), {"type": "text", "text": text}],
    }


def assistant(text: str) -> dict[str, Any]:
    """An assistant turn."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}

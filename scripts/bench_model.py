"""Ours beside transformers' own LLaVA with the same weights: prefill, decoding and a training step, as ratios.

The same code measures a 4-layer model on a CPU and a 7B-shaped one on a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from measure import interleaved_ms
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration

SMALL = {
    "vision": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
               "image_size": 224, "patch_size": 14},
    "text": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 8,
             "num_key_value_heads": 8, "vocab_size": 4096, "max_position_embeddings": 4096},
}  # fmt: skip
SEVEN_B = {
    "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
               "image_size": 336, "patch_size": 14},
    "text": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
             "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096},
}  # fmt: skip
IMAGE_TOKEN = 1


def build(shape: dict[str, Any], device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Our model and transformers' with the same weights, which they share: no second copy is held."""
    torch.manual_seed(0)
    vision, text = CLIPVisionConfig(**shape["vision"]), LlamaConfig(**shape["text"])
    with torch.device(device):
        config = LlavaSomConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN)
        ours = LlavaSomForConditionalGeneration._from_config(config, dtype=dtype).eval()
    plain_config = LlavaConfig(vision_config=vision, text_config=copy.deepcopy(text), image_token_index=IMAGE_TOKEN)
    with torch.device("meta"):
        theirs = LlavaForConditionalGeneration._from_config(plain_config, dtype=dtype).eval()
    theirs.model.vision_tower = ours.vision_tower
    theirs.model.multi_modal_projector = ours.multi_modal_projector
    theirs.model.language_model = ours.language_model.model
    theirs.lm_head = ours.language_model.lm_head
    return ours, theirs


def inputs_for(model: Any, text_tokens: int, batch: int = 1) -> dict[str, torch.Tensor]:
    """One image and `text_tokens` of text for each sample of the batch."""
    length, device = model.config.image_seq_length, model.device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 4000, (batch, length + text_tokens), generator=generator)
    ids[:, 1 : length + 1] = IMAGE_TOKEN
    side = model.config.vision_config.image_size
    pixels = torch.randn(batch, 3, side, side, generator=generator)
    mask = torch.ones_like(ids)
    return {
        "input_ids": ids.to(device),
        "attention_mask": mask.to(device),
        "pixel_values": pixels.to(device, model.dtype),
    }


def timed(call: Callable[[], object], device: str) -> Callable[[], None]:
    """The call, waited for until the device has finished it."""

    def run_and_wait() -> None:
        call()
        if device != "cpu":
            torch.cuda.synchronize()

    return run_and_wait


def measure_inference(ours: Any, theirs: Any, device: str, repeats: int, new_tokens: int = 16) -> dict[str, Any]:
    """Prefill and greedy decoding of both."""
    inputs = inputs_for(ours, text_tokens=64)
    options = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode():
        prefill = interleaved_ms(
            {
                name: timed(lambda model=model: model(**inputs, logits_to_keep=1), device)
                for name, model in [("ours", ours), ("transformers", theirs)]
            },
            repeats,
        )
        generate = interleaved_ms(
            {
                name: timed(lambda model=model: model.generate(**inputs, **options), device)
                for name, model in [("ours", ours), ("transformers", theirs)]
            },
            max(3, repeats // 3),
        )
    return {
        "prompt_tokens": inputs["input_ids"].shape[1],
        "prefill_ms": prefill,
        "prefill_ratio": round(prefill["ours"] / prefill["transformers"], 3),
        f"generate_{new_tokens}_ms": generate,
        "generate_ratio": round(generate["ours"] / generate["transformers"], 3),
    }


def measure_training(ours: Any, theirs: Any, device: str, repeats: int, batch: int = 2) -> dict[str, Any]:
    """Forward and backward of both; the optimizer is the same library's and left out."""
    inputs = inputs_for(ours, text_tokens=64, batch=batch)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN, -100)

    def step(model: Any) -> None:
        model.train()
        model(**inputs, labels=labels).loss.backward()
        model.zero_grad(set_to_none=True)
        model.eval()

    times = interleaved_ms(
        {
            "ours": timed(lambda: step(ours), device),
            "transformers": timed(lambda: step(theirs), device),
        },
        repeats,
    )
    return {"batch": batch, "step_ms": times, "step_ratio": round(times["ours"] / times["transformers"], 3)}


def run(repeats: int = 11) -> dict:
    """The small model on this CPU."""
    ours, theirs = build(SMALL, "cpu", torch.float32)
    return {
        "repeats": repeats,
        "inference": measure_inference(ours, theirs, "cpu", repeats),
        "training": measure_training(ours, theirs, "cpu", repeats),
    }

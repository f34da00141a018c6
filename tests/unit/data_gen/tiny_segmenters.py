"""Tiny random checkpoints of real segmenter and detector classes, each written to a folder with its processor."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVERYTHING = {"points_per_side": 4, "min_predicted_iou": 0.0, "min_stability": 0.0, "device": "cpu"}  # random weights
ALL_SEGMENTS = {"threshold": 0.0, "overlap_mask_area_threshold": 0.0, "mask_threshold": 0.0, "device": "cpu"}
PHRASES = ("Red Cup", "a dog", "tall green tree")

COCO_CLASSES = ["person", "traffic light", *(f"thing {k}" for k in range(78)), "wall-other-merged", "floor-wood"]
COCO_CLASSES += [f"stuff {k}-merged" for k in range(133 - len(COCO_CLASSES))]
SQUARE = {"height": 64, "width": 64}
SWIN = {"model_type": "swin", "image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1], "window_size": 2}  # fmt: skip
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
HEADS = {"num_attention_heads": 2, "encoder_feedforward_dim": 16, "dim_feedforward": 16, "hidden_dim": 32}


def write_tiny_panoptic(folder: Path, family: str, classes: list[str] | None = None) -> Path:
    """A Mask2Former, OneFormer or EoMT checkpoint; by default its 133 classes stand where COCO's do."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    names = classes or COCO_CLASSES
    named: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
    small = {"num_queries": 8, **HEADS, "encoder_layers": 1, **named}
    if family == "mask2former":
        size = {"feature_size": 32, "mask_feature_size": 32, "decoder_layers": 2}
        config = hf.Mask2FormerConfig(backbone_config=SWIN | STAGES, **size, **small)
        model: Any = hf.Mask2FormerForUniversalSegmentation(config)
        processor: Any = hf.Mask2FormerImageProcessor(size=SQUARE)
    elif family == "oneformer":
        text = {"text_encoder_width": 32, "text_encoder_vocab_size": 128, "text_encoder_num_layers": 1}
        text |= {"task_seq_len": 24, "text_encoder_context_length": 24, "conv_dim": 32, "mask_dim": 32}
        config = hf.OneFormerConfig(backbone_config=SWIN | STAGES, decoder_layers=2, **text, **small)
        model = hf.OneFormerForUniversalSegmentation(config)
        images = hf.OneFormerImageProcessor(size=SQUARE)
        images.class_info_file = "coco_panoptic.json"  # as in published checkpoints: a file of another hub repository
        processor = hf.OneFormerProcessor(images, letter_tokenizer(24), task_seq_length=24)
    else:
        vit = {"hidden_size": 16, "num_hidden_layers": 2, "num_blocks": 1, "num_attention_heads": 2}
        vit |= {"image_size": 64, "patch_size": 16, "num_queries": 8, "num_upscale_blocks": 1}
        model = hf.EomtForUniversalSegmentation(hf.EomtConfig(**vit, **named))
        processor = hf.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3 if weight.dim() > 1 else 1)  # else every query is nearly the same
    return save(folder, model, processor)


def write_tiny_detector(folder: Path, family: str) -> Path:
    """A GroundingDino, MMGroundingDino, Owlv2 or OwlViT checkpoint, named as transformers names its classes."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if family.endswith("GroundingDino"):
        text |= {"model_type": "bert", "vocab_size": 1100, "max_position_embeddings": 64}
        size = {"d_model": 32, "num_queries": 12, "encoder_layers": 1, "decoder_layers": 2, "max_text_len": 40}
        size |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        size |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        size |= {"text_config": text, "backbone_config": SWIN | {"out_indices": [2, 3, 4]}}
        images: Any = hf.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
        processor: Any = hf.GroundingDinoProcessor(images, bert_tokenizer())
    else:
        vision = text | {"image_size": 64, "patch_size": 16}
        text |= {"vocab_size": 128, "max_position_embeddings": 24, "bos_token_id": 53, "eos_token_id": 54}
        size = {"text_config": text, "vision_config": vision, "projection_dim": 16}
        images = getattr(hf, f"{family}ImageProcessor")(size=SQUARE, do_center_crop=False)
        processor = getattr(hf, f"{family}Processor")(images, letter_tokenizer(24))
    model = getattr(hf, f"{family}ForObjectDetection")(getattr(hf, f"{family}Config")(**size))
    return save(folder, model, processor)


def write_tiny_sam(folder: Path, family: str) -> Path:
    """A SAM, SAM-HQ, SAM2 or SAM3 (tracker) checkpoint; sam2_video is the form in which SAM2 is published."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    decoder |= {"iou_head_hidden_dim": 16}
    pyramid = {"fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    if family in ("sam", "sam_hq"):
        name, options = ("SamHQ", {"vit_dim": 32}) if family == "sam_hq" else ("Sam", {})
        vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "mlp_dim": 64}
        vision |= {"patch_size": 8, "output_channels": 16, "window_size": 4, "global_attn_indexes": [1]}
        prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
        vision["num_pos_feats"] = 8
        config: Any = getattr(hf, f"{name}Config")(
            vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder | options
        )
        model: Any = getattr(hf, f"{name}Model")(config)
        processor: Any = hf.SamImageProcessor(size={"longest_edge": 64}, pad_size=SQUARE)
    elif family in ("sam2", "sam2_video"):
        hiera = {"model_type": "sam2_hiera_det_model", "hidden_size": 16, "image_size": [64, 64]}
        hiera |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [16, 32, 64, 128]}
        hiera |= {"num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [8, 4, 4, 4]}
        hiera |= {"window_positional_embedding_background_size": [4, 4], "global_attention_blocks": [3]}
        vision = {"backbone_config": hiera, "backbone_channel_list": [128, 64, 32, 16], **pyramid}
        prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
        parts = {"vision_config": vision, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}
        model, processor = hf.Sam2Model(hf.Sam2Config(**parts)), hf.Sam2ImageProcessor(size=SQUARE)
        if family == "sam2_video":
            sizes = ("memory_attention_hidden_size", "memory_attention_feed_forward_hidden_size")
            sizes += ("memory_encoder_hidden_size", "memory_encoder_output_channels")
            sizes += ("memory_fuser_embed_dim", "memory_fuser_intermediate_dim")
            memory = {"memory_attention_num_layers": 1, "memory_attention_rope_feat_sizes": [4, 4], "image_size": 64}
            model = hf.Sam2VideoModel(hf.Sam2VideoConfig(**parts, **memory, **dict.fromkeys(sizes, 16)))
            processor = hf.Sam2VideoProcessor(processor, hf.Sam2VideoVideoProcessor(size=SQUARE))
    else:
        vit = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        vit |= {"num_attention_heads": 2, "image_size": 56, "pretrain_image_size": 28, "patch_size": 14}
        vit |= {"window_size": 2, "global_attn_indexes": [1]}
        vision = {"model_type": "sam3_vision_model", "backbone_config": vit, **pyramid}
        prompt = {"hidden_size": 16, "image_size": 56, "patch_size": 14, "mask_input_channels": 4}
        config = hf.Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
        model, processor = hf.Sam3TrackerModel(config), hf.Sam3ImageProcessor(size={"height": 56, "width": 56})
    return save(folder, model, processor)


def save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def letter_tokenizer(longest: int) -> Any:
    """A CLIP tokenizer of letters; the end token has the highest id, by which OWLv2 finds it."""
    import transformers as hf

    letters = list(string.ascii_lowercase)
    words = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: number for number, word in enumerate(words)}
    return hf.CLIPTokenizer(vocab=vocab, merges=[], pad_token="!", model_max_length=longest)


def bert_tokenizer() -> Any:
    """A BERT tokenizer of letters, with the four ids by which Grounding DINO knows its separators."""
    import transformers as hf

    vocab = {f"[unused{number}]": number for number in range(1100)}
    vocab = {word: number for word, number in vocab.items() if number not in (0, 100, 101, 102, 1012, 1029)}
    vocab |= {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    free = iter(range(200, 300))
    for letter in string.ascii_lowercase:
        for piece in (letter, f"##{letter}"):
            number = next(free)
            del vocab[f"[unused{number}]"]
            vocab[piece] = number
    return hf.BertTokenizer(vocab=dict(sorted(vocab.items(), key=lambda entry: entry[1])))


MODEL_SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "grounding": lambda folder: {
        "checkpoint": str(write_tiny_detector(folder / "owlv2", "Owlv2")),
        "segmenter": str(write_tiny_sam(folder / "sam2", "sam2")),
        "phrases": list(PHRASES),
        "threshold": 0.0,
        "device": "cpu",
    },
    "panoptic": lambda folder: {
        "checkpoint": str(write_tiny_panoptic(folder / "eomt", "eomt")),
        **ALL_SEGMENTS,
    },
    "sam": lambda folder: {"checkpoint": str(write_tiny_sam(folder / "sam", "sam")), **EVERYTHING},
}  # beside `images`, a folder of photos, these make a minimal real input

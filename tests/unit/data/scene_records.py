"""LLaVA-format records with small drawn images, as a file on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny import drawn_image

ANSWERS = ("1. red circle\n2. blue square", "1. green triangle", "1. white cross\n2. yellow star")


def scene(number: int) -> dict[str, Any]:
    """A record with one image."""
    return {
        "id": f"scene-{number}",
        "image": f"{number}.png",
        "conversations": [
            {"from": "human", "value": "<image>\nList the tagged items one by one."},
            {"from": "gpt", "value": ANSWERS[number % len(ANSWERS)]},
        ],
    }


def text_only(number: int) -> dict[str, Any]:
    """A record without an image."""
    return {
        "id": f"text-{number}",
        "conversations": [{"from": "human", "value": "What is white?"}, {"from": "gpt", "value": f"{number}. cross"}],
    }


def write_data(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Write `data.json`, and an image for every record that names one called `<number>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        if isinstance(record.get("image"), str) and record["image"][:-4].isdigit():
            drawn_image(int(record["image"][:-4])).save(folder / record["image"])
    file = folder / "data.json"
    file.write_text(json.dumps(records))
    return file

"""A finished run without the pipeline: real marked images on disk, and the journal entries that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_gen.config import Run, plan_run
from data_gen.journal import Entry
from data_gen.writers.files import save_image, save_marked
from llava_som.marks.marker import mark_image

NOTHING = {
    "id": "gone",
    "file": "gone.jpg",
    "samples": [],
    "rejects": [{"recipe": None, "kind": "unusable image", "reason": "no such file", "answer": ""}],
}


def finished_run(out: Path, count: int = 5, min_area: int = 20, **options: Any) -> tuple[Run, list[Entry]]:
    """`count` drawn scenes, each with a listing and its untagged twin, the first with a reject; and a missing image."""
    marks = {"short_side": 96, "font_px": 15, "min_area": min_area}
    run = plan_run({"source": "scenes", "count": count, "preset": "paper", "marks": marks, "out": str(out), **options})
    entries = []
    for ref in run.source.refs():
        image = run.source.load(ref)
        marked = mark_image(image, run.source.regions(ref, image), run.preset, 0)
        name = f"{ref.id}.png"
        save_marked(marked, out / "images", name)
        save_image(image, out / "clean", name)
        listing = "\n".join(f"{mark.id}. {mark.category}" for mark in marked.record.marks)
        turns = [{"from": "human", "value": "<image>\nList the marks."}, {"from": "gpt", "value": listing}]
        sample = {"id": ref.id, "image": f"images/{name}", "recipe": "listing", "conversations": turns}
        entries.append(
            {
                "id": ref.id,
                "file": ref.id,
                "image": f"images/{name}",
                "sidecar": f"images/{ref.id}.marks.json",
                "clean_image": f"clean/{name}",
                "marks": len(marked.record.marks),
                "skipped": len(marked.record.skipped),
                "samples": [sample, {**sample, "id": f"{ref.id}:untagged", "image": f"clean/{name}"}],
                "rejects": [],
                "usage": {"prompt_tokens": 10, "completion_tokens": 3},
            }
        )
    entries[0]["rejects"] = [{"recipe": "qa", "kind": "few words", "reason": "few words: 1", "answer": "Yes | no."}]
    return run, [*entries, NOTHING]

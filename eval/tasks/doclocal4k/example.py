"""A text of each granularity, asked for by its box and by its words."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_rows

TEXTS = {
    "word": ("Invoice", "100,50,300,90"),
    "phrase": ("total amount due", "100,150,500,190"),
    "line": ("The total amount is due on Friday", "100,250,900,290"),
    "paragraph": ("Dear reader,\nthis letter has two lines of text", "100,350,900,480"),
}


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    grounding, recognition = [], []
    for grain, (text, box) in TEXTS.items():
        where, what = f"<bbox>{box}</bbox>", f"<ocr> {text} </ocr>"
        grounding.append(row([text], f"Give the bounding box of the text {what}", where, f"{grain}_t2bbox_sft"))
        recognition.append(row([text], f"Identify the text within {where}", what, f"{grain}_bbox2t_sft"))
    write_rows(folder, "text_grounding.jsonl", grounding)
    write_rows(folder, "text_recognition.jsonl", recognition)
    return folder

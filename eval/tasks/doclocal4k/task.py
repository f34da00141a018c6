"""What the doclocal4k YAML files name. Scores are given for all rows and for each granularity.

Grounding is right at an intersection over union of one half, and the total is the mean over rows. Recognition is the
mean BLEU of single texts, BLEU-1 for words up to BLEU-4 for blocks, and the total is the mean of the four means.
"""

from __future__ import annotations

import re
from typing import Any

from eval.docowl_jsonl import reference
from eval.metrics.boxes import iou
from eval.metrics.captions import sentence_bleu
from eval.metrics.corpus import counted
from eval.metrics.text import unstopped
from llava_som.data.text_boxes import sole_box

ORDER = {"word": 1, "phrase": 2, "line": 3, "block": 4}
"""Granularities, with the n-grams that their texts are scored by."""

_TAGS = re.compile(r"</?ocr>")


def score_grounding(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 for a box that overlaps the true one by half, else 0, also for what is no box.

    Raises:
        ValueError: the reference is no box.
    """
    true = sole_box(reference(row))
    if true is None:
        raise ValueError(f"{row['image'][:1]}: its reference {reference(row)!r} is not one box.")
    said = sole_box(answers[0])
    hit = float(said is not None and iou(said, true) >= 0.5)
    return {"iou50": hit, f"iou50_{granularity(row)}": hit}


def score_recognition(row: dict[str, Any], answers: list[str]) -> dict[str, Any]:
    """BLEU of the text, and the counts behind the mean of the granularities' means."""
    grain = granularity(row)
    order = ORDER[grain]
    value = sentence_bleu(_plain(answers[0]), _plain(reference(row)))[order - 1]
    counts = [number for other in ORDER for number in ((value, 1) if other == grain else (0, 0))]
    return {"bleu": counted("mean_of_groups", counts), f"bleu{order}_{grain}": value}


def granularity(row: dict[str, Any]) -> str:
    """The size of the text a row is about, from its task_name ("word_bbox2t_sft"); blocks are called paragraphs there.

    Raises:
        ValueError: a task_name that begins with no granularity.
    """
    size = row["task_name"].split("_")[0].replace("paragraph", "block")
    if size not in ORDER:
        raise ValueError(
            f"{row['image'][:1]}: its task_name {row['task_name']!r} must begin with word, phrase, line or paragraph."
        )
    return size


def _plain(text: str) -> str:
    return unstopped(_TAGS.sub("", text))

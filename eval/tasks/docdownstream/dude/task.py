"""What dude.yaml names: ANLS over all and by the kind of answer; lists are paired by the Hungarian method.

Without an answer in the document the right reply is "not answerable". An empty reply says nothing and is wrong, where
the authors' evaluator takes it for that; all else follows that evaluator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.metrics.anls import anls, anls_of_lists
from eval.metrics.text import one_line
from eval.tasks.docdownstream.multi_page import check_order, read_records

if TYPE_CHECKING:
    from datasets import Dataset

EXCLUDED = frozenset(
    f"5c5a5880e6a73b4be2315d506ab0b15b_{question}"
    for question in (
        "de346678e82e738b603345bf03685297",
        "d5b78d6b4c13b9f8e0869a4626499ec4",
        "7e931379803f6a556f20bcd88217c803",
    )
)
"""Questions of the validation set whose document has no image."""

FIELDS = ("questionId", "question", "answers", "answer_type", "data_split")

ABSTENTION = "not answerable"


def documents(rows: Dataset) -> Dataset:
    """The rows with their accepted answers and kind of answer."""
    records = read_records(rows, "DUDE", ["val_eval_gt.json", "annotation.json"], FIELDS)
    records = [record for record in records if record["data_split"] == "val" and record["questionId"] not in EXCLUDED]
    check_order(rows, records, "DUDE")
    rows = rows.add_column("references", [record["answers"] or [""] for record in records])
    return rows.add_column("answer_type", [record["answer_type"] for record in records])


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """The similarity to the reference, once for all documents and once for its kind of answer."""
    value = _similarity(one_line(answers[0]), row["references"], row["answer_type"])
    kind = "list" if "list" in row["answer_type"] else row["answer_type"].replace("-", "_")
    return {"anls": value, f"anls_{kind}": value}


def _similarity(answer: str, references: list[str], kind: str) -> float:
    if not answer:
        return 0.0
    if ABSTENTION in answer.lower():
        answer = ""
    if "list" in kind:
        return anls_of_lists(answer.split(", "), references)
    return anls(answer, references, half_counts=True)

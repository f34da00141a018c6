"""What mp_docvqa.yaml names: ANLS over all, by the number of pages given, and by the page that has the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.metrics.anls import anls
from eval.tasks.docdownstream.multi_page import check_order, read_records

if TYPE_CHECKING:
    from datasets import Dataset


def documents(rows: Dataset) -> Dataset:
    """The rows with their accepted answers and the page of the answer, counted from 1."""
    records = read_records(rows, "MP-DocVQA", ["val.json"], ("question", "answers", "answer_page_idx"))
    check_order(rows, records, "MP-DocVQA")
    rows = rows.add_column("references", [record["answers"] for record in records])
    return rows.add_column("answer_page", [record["answer_page_idx"] + 1 for record in records])


def score(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """The similarity to the closest accepted answer, once for all documents and once for each of its two groups."""
    value = anls(answers[0], row["references"], half_counts=True)
    given = _group(len(row["image"]))
    pages = "1_page" if given == "1" else f"{given}_pages"
    return {"anls": value, f"anls_of_{pages}": value, f"anls_on_page_{_group(row['answer_page'])}": value}


def _group(page: int) -> str:
    return "1" if page == 1 else "2_to_10" if page <= 10 else "over_10"

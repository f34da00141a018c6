"""Documents of 1, 3 and 12 pages with the answer on the first, the second and the last."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_references, write_rows


def write(folder: Path) -> Path:
    """Write the set into `folder`; returns what data= names."""
    rows, records = [], []
    for pages, page in ((1, 0), (3, 1), (12, 11)):
        asked, answer = f"Which code is on page {page + 1}?", f"code {page + 1}"
        rows.append(row([f"code {number + 1}" for number in range(pages)], asked, answer))
        ids = [f"doc_p{number}" for number in range(pages)]
        records.append({"question": asked, "answers": [answer], "page_ids": ids, "answer_page_idx": page})
    write_rows(folder, "val/MP-DocVQA_val.jsonl", rows)
    write_references(folder, "meta/MP-DocVQA/val.json", records)
    return folder

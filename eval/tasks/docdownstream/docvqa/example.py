"""Two questions about one page and one about another."""

from __future__ import annotations

from pathlib import Path

from eval.tasks.docdownstream.example_files import row, write_due, write_rows


def write(folder: Path, dataset: str = "DocVQA") -> Path:
    """Write the set into `folder`; returns what data= names."""
    date, sender, total = "What is the date?", "Who sent the letter?", "What is the total?"
    rows = [
        row(["Dated 4 July 1996\nfrom ITC Limited"], date, "4 July 1996"),
        row(["Dated 4 July 1996\nfrom ITC Limited"], sender, "ITC Limited"),
        row(["Total $ 12.50"], total, "$12.50"),
    ]
    write_rows(folder, f"test/{dataset}_test.jsonl", rows)
    values = {
        "letter": {date: [["July 4, 1996", "4 July 1996"]], sender: [["ITC Limited"]]},
        "bill": {total: [["$12.50"]]},
    }
    write_due(folder, dataset, [("letter", date), ("letter", sender), ("bill", total)], values)
    return folder

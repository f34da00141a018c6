"""What kleister_charity.yaml names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.tasks.docdownstream.key_values import with_values

if TYPE_CHECKING:
    from datasets import Dataset

KEYS = (
    "address__post_town",
    "address__postcode",
    "address__street_line",
    "charity_name",
    "charity_number",
    "income_annually_in_british_pounds",
    "report_date",
    "spending_annually_in_british_pounds",
)


def documents(rows: Dataset) -> Dataset:
    """The rows with the values of their keys."""
    return with_values(rows, "KleisterCharity", KEYS)

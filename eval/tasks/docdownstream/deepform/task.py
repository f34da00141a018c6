"""What deepform.yaml names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.tasks.docdownstream.key_values import with_values

if TYPE_CHECKING:
    from datasets import Dataset

KEYS = ("advertiser", "flight_from", "flight_to", "gross_amount", "contract_num")


def documents(rows: Dataset) -> Dataset:
    """The rows with the values of their keys."""
    return with_values(rows, "DeepForm", KEYS)

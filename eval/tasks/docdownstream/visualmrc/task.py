"""What visualmrc.yaml names: CIDEr (the metric papers quote), ROUGE-L and corpus BLEU-1 to -4."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from eval.docowl_jsonl import reference
from eval.json_lines import read_lines
from eval.metrics.captions import Cider, bleu_counts, rouge_l
from eval.metrics.corpus import ORDERS, counted
from eval.metrics.text import unstopped

FILE = "test/VisualMRC_test.jsonl"


def score(row: dict[str, Any], answers: list[str]) -> dict[str, Any]:
    """Scores of one answer. CIDEr weighs words by the whole file's references, also when a run is limited."""
    file = Path(row["root"]) / FILE
    said, true = unstopped(answers[0]), unstopped(reference(row))
    counts = bleu_counts(said, true)
    return {
        "cider": _cider(file, file.stat().st_mtime_ns).score(said, true),
        "rouge_l": rouge_l(said, true),
        **{f"bleu{order}": counted(f"bleu{order}", counts) for order in range(1, ORDERS + 1)},
    }


@lru_cache(maxsize=1)
def _cider(file: Path, changed: int) -> Cider:
    """The word weights of a file as it was `changed`."""
    return Cider([unstopped(reference(row)) for _, row in read_lines(file)])

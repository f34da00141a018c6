"""Information extraction as the DUE benchmark scores it: micro F1 over the (key, value) pairs of all documents.

A pair is right when its value, in capitals, equals the reference's value or one of its variants. A key answered with
"None" is not predicted. Source: DUE (Borchmann et al., NeurIPS Datasets and Benchmarks 2021) and the evaluator that
mPLUG-DocOwl released, of which this is the case of one answer per key.
"""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "none"


def match_counts(answer: str, references: Sequence[Sequence[str]]) -> tuple[int, int, int]:
    """Right values, predicted values and true values of one key of one document.

    F1 over documents is twice the sum of the first over the sum of the other two.

    Args:
        answer: the value the model gives, or "None".
        references: each true value with the ways to write it; empty when the document has none.
    """
    if answer.strip().lower() == NOTHING:
        return 0, 0, len(references)
    said = answer.strip().upper()
    return int(any(said == way.upper() for ways in references for way in ways)), 1, len(references)

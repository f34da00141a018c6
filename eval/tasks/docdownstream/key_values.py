"""Forms (DeepForm, Kleister Charity): every key of every document is asked for, and pairs of key and value are scored.

The references are DUE's (see `due`); values of keys that nobody asks for count as missed, as in its evaluator.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from eval.metrics.corpus import counted
from eval.metrics.key_values import match_counts
from eval.metrics.text import one_line
from eval.tasks.docdownstream.due import annotations, asked

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


def with_values(rows: Dataset, dataset: str, keys: Sequence[str]) -> Dataset:
    """The rows with the values of the key they ask for.

    New columns: "document"; "references", the key's values, each with its ways to be written; "unasked", how many
    values the document has under keys that nobody asks for, in its first row.

    Raises:
        ValueError: a question names no key, a key is asked for twice, or files of `meta` are missing or of other data.
    """
    known = annotations(rows, dataset)
    asked_for = [(document, _key(question, keys, dataset)) for document, question in asked(rows, dataset)]
    _check(asked_for, known, dataset)
    unasked = {document: sum(map(len, values.values())) for document, values in known.items()}
    references = [known[document].get(key, []) for document, key in asked_for]
    for (document, _), values in zip(asked_for, references, strict=True):
        unasked[document] -= len(values)
    rows = rows.add_column("document", [document for document, _ in asked_for])
    rows = rows.add_column("references", references)
    return rows.add_column("unasked", [unasked.pop(document, 0) for document, _ in asked_for])


def score(row: dict[str, Any], answers: list[str]) -> dict[str, Any]:
    """The counts behind the micro F1 over all documents."""
    right, predicted, true = match_counts(one_line(answers[0]), row["references"])
    return {"f1": counted("f1", [right, predicted, true + row["unasked"]], unit=row["document"])}


def _check(asked_for: Sequence[tuple[str, str]], known: Collection[str], dataset: str) -> None:
    for (document, key), times in Counter(asked_for).items():
        if document not in known:
            raise ValueError(
                f"{dataset}: document.jsonl has no {document!r}, which metadata.jsonl asks about. "
                "Fetch both files from one release."
            )
        if times > 1:
            raise ValueError(f"{dataset}: asks {times} times for {key!r} of {document!r}; one answer each is scored.")
    if silent := set(known).difference(document for document, _ in asked_for):
        log.warning(
            "%s: nothing is asked about %d of %d documents; they do not count.", dataset, len(silent), len(known)
        )


def _key(question: str, keys: Sequence[str], dataset: str) -> str:
    for key in keys:
        if key in question:
            return key
    raise ValueError(f"{dataset}: the question {question!r} names none of the keys {', '.join(keys)}.")

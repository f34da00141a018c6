"""Average normalised Levenshtein similarity (ANLS): the score of DocVQA, InfographicVQA, MP-DocVQA and DUDE.

ANLS is equation 1 of Biten et al. (ICDAR 2019, arXiv 1907.00490); for questions with several answers at once, DUDE
(arXiv 2305.08455) pairs predicted and true answers so that the sum of similarities is largest (the Hungarian method).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from eval.metrics.text import folded

THRESHOLD = 0.5


def anls(answer: str, references: Sequence[str], half_counts: bool = False) -> float:
    """The similarity to the closest reference, in [0, 1]; 0 at a normalised distance of one half or more.

    Case and the amount of white space are ignored. Two empty texts are equal.

    Args:
        answer: what the model wrote.
        references: the accepted answers, at least one.
        half_counts: keep a similarity of exactly one half ("12" for "15"), as the evaluators of MP-DocVQA and DUDE do.
            The paper's equation and the DUE benchmark's evaluator give 0.
    """
    similarity = max(Levenshtein.normalized_similarity(folded(answer), folded(text)) for text in references)
    kept = similarity >= THRESHOLD if half_counts else similarity > THRESHOLD
    return similarity if kept else 0.0


def anls_of_lists(answers: Sequence[str], references: Sequence[str]) -> float:
    """DUDE's score of a list: the best one-to-one pairing's similarities, over the length of the longer list.

    The order is ignored. Missing and surplus items count as 0. A reference that is given twice lengthens the list once,
    as in DUDE's evaluator, which never lets the score exceed 1 here.
    """
    rows = [[anls(answer, [reference], half_counts=True) for reference in references] for answer in answers]
    similarity = np.array(rows)
    total = float(similarity[linear_sum_assignment(similarity, maximize=True)].sum())
    return min(1.0, total / max(len(set(references)), len(answers)))

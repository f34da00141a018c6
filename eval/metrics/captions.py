"""BLEU, ROUGE-L and CIDEr as pycocoevalcap computes them, without its Java tokenizer.

BLEU (Papineni et al., ACL 2002) and ROUGE-L (Lin, 2004) are pycocoevalcap's own functions. CIDEr (Vedantam et al.,
arXiv 1411.5726, there CIDEr-D) is written here because each document's score is needed by itself, with the document
frequencies of the whole set. METEOR is left out: its only implementation in that package is a Java program.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.rouge.rouge import Rouge

from eval.metrics.corpus import ORDERS

_SIGMA = 6.0  # words of length difference at which CIDEr-D's penalty is exp(-1/2)
_DROPPED = frozenset(["''", "'", "``", "`", '"', ".", "?", "!", ",", ":", "-", ";", "–", "—", "‘", "’", "“", "”"])
_ABBREVIATIONS = "mr|mrs|ms|dr|prof|st|jr|sr|inc|ltd|co|corp|etc|vs|no|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
_WORD = re.compile(
    rf"""[a-z]+://\S*[\w/]                      # addresses of pages
       | [\w.+-]+@[\w-]+(?:\.[\w-]+)+           # and of people
       | \b(?:{_ABBREVIATIONS})\.
       | \b(?:[a-z]\.)+                         # initials: u.s.
       | [-+]?\d+(?:[-.,:/]\d+)*(?!\w)          # 1,234.50  10:30  3/4
       | [a-z]+(?=n't\b) | n't\b                # is n't
       | '(?:s|m|d|ll|re|ve)\b                  # it 's
       | \w+(?:[-&./_]\w+)*                     # well-known, and/or
       | --+ | \.\.+ | \S""",
    re.VERBOSE,
)


def words(text: str) -> list[str]:
    """Lower-case words in the manner of the Penn Treebank, punctuation dropped.

    It follows the Stanford tokenizer that pycocoevalcap starts in Java: contractions are split, numbers, initials,
    common abbreviations and words with hyphens are not, and brackets stay.
    """
    found = _WORD.findall(text.lower().replace("’", "'").replace("cannot", "can not"))
    return [word for word in found if word not in _DROPPED and word.strip("-.")]


def sentence_bleu(answer: str, reference: str) -> list[float]:
    """BLEU-1 to BLEU-4 of one text, in [0, 1].

    As in pycocoevalcap, a text of fewer than n words has no n-gram and BLEU-n near 0, also when it is right.
    """
    _, scores = _bleu_scorer(answer, reference).compute_score(option="closest")
    return [orders[0] for orders in scores]


def bleu_counts(answer: str, reference: str) -> list[int]:
    """What corpus BLEU adds up over documents: right n-grams of orders 1 to 4, n-grams said, words said, words true."""
    counts = _bleu_scorer(answer, reference).ctest[0]
    return [*counts["correct"], *counts["guess"], counts["testlen"], counts["reflen"][0]]


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L: the F-measure (beta 1.2) of the longest common subsequence of words, in [0, 1]."""
    return float(Rouge().calc_score([" ".join(words(answer))], [" ".join(words(reference))]))


class Cider:
    """CIDEr of single documents, with document frequencies of a whole set of references; 10 is a perfect answer.

    Args:
        references: the one reference of every document of the set.
    """

    def __init__(self, references: Sequence[str]) -> None:
        self.log_documents = math.log(len(references))
        self.document_frequency = Counter(ngram for text in references for ngram in set(_ngrams(words(text))))

    def score(self, answer: str, reference: str) -> float:
        """Ten times the mean over n-gram orders of the clipped cosine similarity of TF-IDF vectors, length-penalised.

        The mean of these over the set is pycocoevalcap's CIDEr of the set; papers print it times 100. Length is counted
        in pairs of words, as that package does.
        """
        said, true = _ngrams(words(answer)), _ngrams(words(reference))
        gap = _pairs(said) - _pairs(true)
        return 10 * float(self._similarity(said, true).mean()) * math.exp(-(gap**2) / (2 * _SIGMA**2))

    def _similarity(self, said: Counter, true: Counter) -> np.ndarray:
        """Per order: the product of the vectors, what the answer has more often than the reference cut off."""
        product, said_square, true_square = np.zeros(ORDERS), np.zeros(ORDERS), np.zeros(ORDERS)
        for ngram in said.keys() | true.keys():
            idf = self.log_documents - math.log(max(1, self.document_frequency[ngram]))
            in_said, in_true, order = said[ngram] * idf, true[ngram] * idf, len(ngram) - 1
            product[order] += min(in_said, in_true) * in_true
            said_square[order] += in_said**2
            true_square[order] += in_true**2
        norms = np.sqrt(said_square * true_square)
        return np.divide(product, norms, out=np.zeros(ORDERS), where=norms > 0)


def _bleu_scorer(answer: str, reference: str) -> BleuScorer:
    return BleuScorer(" ".join(words(answer)), [" ".join(words(reference))], n=ORDERS)


def _ngrams(tokens: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(tokens) - order + 1)
    )


def _pairs(ngrams: Counter[tuple[str, ...]]) -> int:
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 2)

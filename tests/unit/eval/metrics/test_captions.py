import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider as ReferenceCider
from pycocoevalcap.rouge.rouge import Rouge

from eval.metrics.captions import Cider, bleu_counts, rouge_l, sentence_bleu, words
from eval.metrics.corpus import corpus_value, counted

# What Stanford's PTBTokenizer makes of them through pycocoevalcap, run with Java; "(" is "-lrb-" there.
TOKENIZED = {
    "The U.S. company's $1,000.50 deal (2nd) isn't done; see http://a.b/c. It ended. OK?": (
        "the u.s. company 's $ 1,000.50 deal ( 2nd ) is n't done see http://a.b/c it ended ok"
    ),
    "Total: 12.5% - 3/4 well-known A&B #5": "total 12.5 % 3/4 well-known a&b # 5",
    "I'll e-mail a@b.com at 10:30 a.m. to Mr. Smith, Inc. etc.": (
        "i 'll e-mail a@b.com at 10:30 a.m. to mr. smith inc. etc."
    ),
    "state--of the art... and/or 1990s [x] cannot": "state of the art and/or 1990s [ x ] can not",
    "Price:$5.00,paid. x*y 100km/h 3-4 years": "price $ 5.00 paid x * y 100km/h 3-4 years",
}

REFERENCES = [
    "The museum opens at nine in the morning and closes at six.",
    "Most large whales live on very small animals.",
    "It's about 1,233 km long, says the page.",
    "The museum closes.",
    "Whales are large, and the page says so.",
]
ANSWERS = [
    "The museum opens at nine in the morning.",
    "Whales live on small animals, most of them very very small animals.",
    "about 1,233 km long",
    "",
    "Nothing is said here.",
]


@pytest.mark.parametrize(("text", "tokens"), TOKENIZED.items())
def test_words_are_split_as_by_the_java_tokenizer(text, tokens):
    assert " ".join(words(text)) == tokens


def as_coco(texts):
    return {number: [" ".join(words(text))] for number, text in enumerate(texts)}


def test_cider_is_the_one_of_pycocoevalcap_document_by_document():
    cider = Cider(REFERENCES)
    ours = [cider.score(*pair) for pair in zip(ANSWERS, REFERENCES, strict=True)]
    mean, theirs = ReferenceCider().compute_score(as_coco(REFERENCES), as_coco(ANSWERS))
    assert ours == pytest.approx(theirs.tolist()) and np.mean(ours) == pytest.approx(mean)
    assert ours[3] == 0 < ours[0] < 10
    assert cider.score(REFERENCES[0], REFERENCES[0]) == pytest.approx(10)


def test_corpus_bleu_and_rouge_are_those_of_pycocoevalcap():
    counts = [bleu_counts(*pair) for pair in zip(ANSWERS, REFERENCES, strict=True)]
    ours = [corpus_value([counted(f"bleu{order}", row) for row in counts]) for order in (1, 2, 3, 4)]
    assert ours == pytest.approx(Bleu(4).compute_score(as_coco(REFERENCES), as_coco(ANSWERS), verbose=0)[0], abs=1e-6)
    rouge = [rouge_l(*pair) for pair in zip(ANSWERS, REFERENCES, strict=True)]
    assert rouge == pytest.approx(Rouge().compute_score(as_coco(REFERENCES), as_coco(ANSWERS))[1].tolist())


def test_bleu_by_hand():
    """Four of five words and two of four pairs are right; six words were true: the brevity factor is exp(1 - 6/5)."""
    answer, reference = "the cat sat on it", "the cat was sat on mats"
    brevity = np.exp(1 - 6 / 5)
    assert sentence_bleu(answer, reference)[:2] == pytest.approx([0.8 * brevity, (0.8 * 0.5) ** 0.5 * brevity])
    assert bleu_counts(answer, reference) == [4, 2, 0, 0, 5, 4, 3, 2, 5, 6]


def test_rouge_by_hand():
    """Longest common subsequence "the cat sat on": P = 4/5, R = 4/6, beta 1.2."""
    precision, recall = 4 / 5, 4 / 6
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l("the cat sat on it", "the cat was sat on mats") == pytest.approx(expected)


def test_a_text_of_fewer_words_than_n_has_no_bleu_n_even_when_right():
    scores = sentence_bleu("Total due", "Total due")
    assert scores[:2] == pytest.approx([1, 1]) and max(scores[2:]) < 0.1

import pytest

from eval.metrics.anls import anls, anls_of_lists


@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        ("July 4", ["July 4"], 1.0),
        ("  JULY\n4 ", ["July 4"], 1.0),
        ("kitten", ["sitting"], 1 - 3 / 7),  # the textbook distance of 3
        ("abcd", ["abxy", "abcx"], 0.75),  # the closest reference counts
        ("abc", ["xyz"], 0.0),
        ("abcde", ["abxyz"], 0.0),  # 0.4 is below the threshold
        ("", ["abc"], 0.0),
        ("abc", [""], 0.0),
        ("", [""], 1.0),
    ],
)
def test_anls_of_known_pairs(answer, references, score):
    assert anls(answer, references) == pytest.approx(score)


def test_exactly_one_half_counts_only_where_the_evaluator_counts_it():
    assert anls("12", ["15"]) == 0
    assert anls("12", ["15"], half_counts=True) == 0.5
    assert anls("123", ["189"], half_counts=True) == 0


@pytest.mark.parametrize(
    ("answers", "references", "score"),
    [
        (["Lyon", "Rome"], ["Rome", "Lyon"], 1.0),
        (["Rome"], ["Rome", "Lyon"], 0.5),
        (["Rome", "Lyon", "Oslo"], ["Rome", "Lyon"], 2 / 3),
        (["Rome"], ["Rome", "Rome"], 1.0),  # a reference given twice counts once
        ([""], ["Rome", "Lyon"], 0.0),
    ],
)
def test_lists_are_paired_and_divided_by_the_longer_one(answers, references, score):
    assert anls_of_lists(answers, references) == pytest.approx(score)


def test_the_pairing_is_the_best_and_not_the_greedy_one():
    # By turns "abcde" takes "abcdef" (5/6) and leaves "abcd" (4/6); the best pairs are 4/5 and 5/6.
    assert anls_of_lists(["abcde", "abcdxf"], ["abcd", "abcdef"]) == pytest.approx((4 / 5 + 5 / 6) / 2)

import pytest

from eval.metrics.denotation import names_all, normalized, same_denotation


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Café  “Noir”", 'cafe "noir"'),
        ("Smith[1][note 2]", "smith"),
        ("Smith (USA) (captain)*†", "smith"),
        ('"Yesterday."', "yesterday"),
        ("1990–91", "1990-91"),
        ("(all)", "(all)"),  # what is in brackets from the start is no remark
        ("  U.S. ", "u.s"),
    ],
)
def test_texts_are_normalised(text, plain):
    assert normalized(text) == plain


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        (["3"], ["3.0"], True),
        (["3.0000001"], ["3"], True),
        (["3.1"], ["3"], False),
        (["1,000"], ["1000"], False),  # a thousands separator makes it a text, as in the authors' evaluator
        (["1_000"], ["1000"], False),
        (["nan"], ["nan"], True),
        (["2004-07-04"], ["2004-7-4"], True),
        (["xx-07-04"], ["2004-07-04"], False),
        (["2004-xx-xx"], ["2004"], True),
        (["2004-13-04"], ["2004-13-4"], False),  # no month 13, so these are texts
        (["Rome"], ["rome."], True),
        (["b", "a"], ["a", "b"], True),
        (["a", "a"], ["a"], True),
        (["a"], ["a", "b"], False),
        (["a", "b", "c"], ["a", "b"], False),
        ([""], ["a"], False),
    ],
)
def test_denotations_of_known_pairs(answer, reference, right):
    assert same_denotation(answer, reference) is right


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("Lyon, Rome", ["Rome", "Lyon"], True),
        ("Lyon|Rome", ["Rome", "Lyon"], True),
        ("Rome", ["Rome", "Lyon"], False),
        ("Rome, Lyon, Oslo", ["Rome", "Lyon"], False),
        ("Smith, Ann, Bo Li", ["Smith, Ann", "Bo Li"], True),
        ("Bo Li|Smith, Ann", ["Smith, Ann", "Bo Li"], True),
        ("Smith, Ann", ["Smith, Ann"], True),  # one value is never split
        ("3, 4", ["3"], False),
        ("", ["Rome", "Lyon"], False),
    ],
)
def test_written_lists_are_split(answer, reference, right):
    assert names_all(answer, reference) is right

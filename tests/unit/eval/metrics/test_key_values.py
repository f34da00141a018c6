import pytest

from eval.metrics.corpus import corpus_value, counted
from eval.metrics.key_values import match_counts


@pytest.mark.parametrize(
    ("answer", "references", "counts"),
    [
        ("Acme", [["ACME"]], (1, 1, 1)),
        (" acme ltd ", [["Acme", "ACME Ltd"]], (1, 1, 1)),
        ("Acm", [["Acme"]], (0, 1, 1)),
        ("b", [["a"], ["b"]], (1, 1, 2)),
        ("None", [["Acme"]], (0, 0, 1)),
        ("none ", [], (0, 0, 0)),
        ("Acme", [], (0, 1, 0)),
        ("", [["Acme"]], (0, 1, 1)),
    ],
)
def test_values_of_one_key(answer, references, counts):
    assert match_counts(answer, references) == counts


def test_f1_over_documents_is_the_one_of_precision_and_recall():
    """Five pairs are predicted, three of them right, six are true: P = 3/5, R = 1/2."""
    answers = [("a", [["a"]]), ("x", [["b"]]), ("c", [["c"], ["d"]]), ("None", [["e"]]), ("f", [["f"]]), ("g", [])]
    items = [counted("f1", match_counts(*pair), unit=str(number // 2)) for number, pair in enumerate(answers)]
    assert corpus_value(items) == pytest.approx(2 * 3 / 5 * 1 / 2 / (3 / 5 + 1 / 2))
    assert corpus_value([counted("f1", match_counts("None", [["a"]]))]) == 0

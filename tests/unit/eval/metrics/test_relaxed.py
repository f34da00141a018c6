import pytest

from eval.metrics.relaxed import number, relaxed_match


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("94.9", "100", False),
        ("-95", "-100", True),
        ("95", "-100", False),
        ("0.0", "0", True),
        ("0%", "0", True),
        ("0.01", "0", False),
        ("1,234", "1234", True),
        ("$1,234.50", "1234.5", True),
        ("1234", "$1,234", True),
        ("56%", "0.56", True),
        ("56 %", "56%", True),
        ("56", "56%", False),
        ("Blue", " blue ", True),
        ("Blue", "Blues", False),
        ("", "0", False),
        ("", "Blue", False),
        ("nan", "100", False),
        ("about 100", "100", False),
    ],
)
def test_relaxed_accuracy_of_known_pairs(answer, reference, right):
    assert relaxed_match(answer, reference) is right


@pytest.mark.parametrize(
    ("text", "value"),
    [("$ -5", -5.0), ("-$5", -5.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("12,34", None), ("inf", None),
     ("1_000", None), ("--5", None), ("-$-5", None), ("5 km", None)],
)  # fmt: skip
def test_only_a_whole_number_is_a_number(text, value):
    assert number(text) == value

"""ChartQA's relaxed accuracy (Masry et al., arXiv 2203.10244, section 5.1): numbers may be 5 % off, texts not at all.

Two gaps of the usual implementation are closed: thousands separators and a currency sign do not make a number a text,
and a true value of 0 is matched by every way to write 0.
"""

from __future__ import annotations

import re

from eval.metrics.text import folded

TOLERANCE = 0.05

_NUMBER = re.compile(r"([-+]?)\s*\$?\s*([-+]?)((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(e[-+]?\d+)?\s*(%?)", re.I)


def relaxed_match(answer: str, reference: str) -> bool:
    """Whether a number lies within 5 % of the reference, or a text equals it in lower case.

    "12 %" is 0.12. Only 0 is within 5 % of 0.
    """
    said, true = number(answer), number(reference)
    if said is None or true is None:
        return folded(answer) == folded(reference)
    return abs(said - true) <= TOLERANCE * abs(true)


def number(text: str) -> float | None:
    """The number a text consists of ("$1,234.50", "-3.2 %", ".5", "1e3"), or None."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (match[1] and match[2]):
        return None
    value = float(f"{match[1] or match[2]}{match[3].replace(',', '')}{match[4] or ''}")
    return value / 100 if match[5] else value

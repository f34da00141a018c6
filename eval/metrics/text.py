"""How answers are written alike before they are compared."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Every run of white space, line breaks included, one space; none around the text."""
    return " ".join(text.split())


def folded(text: str) -> str:
    """One line in lower case."""
    return one_line(text).lower()


def unstopped(text: str) -> str:
    """One line without a final full stop, which models add to answers of one word."""
    return one_line(text).removesuffix(".").rstrip()

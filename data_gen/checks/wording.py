"""Faults that show in the words alone: refusals, hedges, loops, texts cut off in the middle.

The tables are small and were written against look-alikes ("a sorry-looking dog", a sign that reads "I can't help it");
what stands in quotation marks is quoted and accuses nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from data_gen.checks.findings import Finding
from llava_som.marks.parse import normalize_name

_CANNOT = (
    r"(?: ?(?:can ?not|can['’]t|could not|couldn['’]t|won['’]t(?: be able to)?|will not(?: be able to)?|must decline to"
    r"|do not|don['’]t|(?:am|['’]m) (?:un|not )able to))"
)
_REFUSALS = [
    r"\b(?:i am|i['’]m) (?:very |really |so |truly )?sorry\b(?=\s*[,.;!]|\s+(?:but|that|i|for)\b)",
    rf"\b(?:sorry|apologies|unfortunately|i['’]m afraid)\b[,.!]? (?:but |that )?(?:as an ai\b|i{_CANNOT})",
    r"\b(?:as|i am|i['’]m)(?: just| only)? an? (?:text-based )?"
    r"(?:ai|artificial intelligence|(?:large )?language model)\b(?=[\s,]+(?!on\b|at\b))",
    rf"\bi{_CANNOT} (?:\w+ )?"
    r"(?:help|assist|comply|identify|provide|process|fulfill?|answer|list|describe|engage|continue)\b",
    rf"\bi{_CANNOT} (?:have the ability to )?(?:\w+ )?"
    r"(?:see|view|open|access|find|make out) (?:(?:the|any|this|an?|your) )?(?:\w+ )?(?:image|picture|photo|tag)s?\b",
    r"\b(?:against|violates?) (?:my|our|the) (?:\w+ )?(?:guidelines|polic(?:y|ies))\b",
    r"\bi(?:['’]m| am| do|['’]ll| will)?(?: not|n['’]t)? (?:feel )?(?:comfortable (?:with|describing|identifying)"
    r"|programmed not to|going to have to decline|have to decline)\b",
    r"\b(?:there is )?no (?:image|picture|photo) (?:(?:was|is|has been) )?(?:provided|attached|uploaded)\b",
    r"\b(?:image|picture|photo) (?:can ?not|can['’]t|could not|couldn['’]t) be (?:displayed|loaded|viewed)\b",
    r"\bi['’]m having trouble (?:viewing|seeing|loading)\b",
]
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:possibly|perhaps|maybe|probably|presumably|apparently|(?:might|may|could) be(?! seen)|unclear|uncertain"
    r"|ambiguous|indistinct|unidentifi\w+|unrecogni[sz]able|unknown (?:object|item|thing)|likely an?"
    r"|not (?:entirely |really |quite )?(?:clear|sure|certain|visible|identifiable)"
    r"|(?:hard|difficult|impossible|not possible|too \w+) to (?:tell|say|make out|identify|determine|discern)"
    r"|(?:it|this|that|i|what) (?:thinks?|seems?|appears?|looks?) (?:it is|this is|to be|like)"
    r"|some (?:sort|kind|type) of|no (?:visible )?(?:item|object)|nothing visible"
    r"|can ?not be (?:determined|identified|told)|can['’]t tell)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|(?<!\w)['‘][^'’\n]*['’](?!\w)")
_OPEN_ENDED = frozenset({"a", "an", "and", "my", "or", "our", "the", "their", "your"})
_LETTER_FOLLOWS = frozenset({"tag", "tagged", "mark", "marked", "label", "labelled", "letter"})  # "the tag a" is whole
_LONGEST_LOOP = 12  # words


def is_refusal(text: str) -> bool:
    """Whether the annotator says that it will not or cannot answer."""
    return _REFUSAL.search(_QUOTED.sub(" ", text)) is not None


def is_hedged(text: str) -> bool:
    """Whether the text says that it is not sure."""
    return _HEDGE.search(_QUOTED.sub(" ", text)) is not None


def is_loop(text: str) -> bool:
    """Whether some words are said over and over: one word five times in a row, or a phrase of 2 to 12 three times."""
    words = re.findall(r"\w+", text.lower())
    for length in range(1, _LONGEST_LOOP + 1):
        run, needed = 0, (4 if length == 1 else 2) * length
        for word, earlier in zip(words[length:], words, strict=False):
            run = run + 1 if word == earlier else 0
            if run >= needed:
                return True
    return False


def is_cut_off(text: str) -> bool:
    """Whether the text stops where no sentence or phrase can end: after "the", a comma, an open bracket."""
    text = text.rstrip()
    *before, last = ["", *re.findall(r"[\w'’]+", text)]
    if text.endswith((".", "!", "?")) or not last:
        return False
    open_word = last in _OPEN_ENDED and not (before and before[-1].lower() in _LETTER_FOLLOWS)  # not: "plan A"
    return text[-1] in ",(-–—:&" or text.count("(") > text.count(")") or open_word


def text_findings(text: str) -> list[Finding]:
    """What a whole answer may not be: empty, a refusal, or with `<image>` in it, which training reads as a picture."""
    if not text.strip():
        return [Finding("empty answer", "the annotator said nothing")]
    return [*([Finding("refusal", shortened(text))] if is_refusal(text) else []), *placeholder_findings(text)]


def placeholder_findings(text: str) -> list[Finding]:
    """A finding where training would read a text as a picture."""
    if "<image>" not in text:
        return []
    return [Finding("placeholder in the text", f"it contains <image>: {shortened(text)}")]


def piece_findings(pieces: Mapping[str, str], max_words: int) -> list[Finding]:
    """Faults of single pieces (items by label, answers by number): empty, too long, a loop, cut off."""
    tests = {
        "empty": lambda text: not re.search(r"\w", text),
        "too long": lambda text: len(text.split()) > max_words,
        "goes round in circles": is_loop,
        "cut off": is_cut_off,
    }
    found = {kind: tuple(key for key, text in pieces.items() if test(text)) for kind, test in tests.items()}
    return [Finding(kind, f"{', '.join(keys)}", keys) for kind, keys in found.items() if keys]


def hedge_findings(pieces: Mapping[str, str], max_share: float) -> list[Finding]:
    """One finding where more than that share of the pieces is unsure."""
    hedged = tuple(key for key, text in pieces.items() if is_hedged(text))
    if len(hedged) <= max_share * len(pieces):
        return []
    return [Finding("mostly unsure", f"{len(hedged)} of {len(pieces)}: {', '.join(hedged)}", hedged)]


def repetition_findings(
    pieces: Mapping[str, str], max_share: float, names: Mapping[str, str | None] | None = None
) -> list[Finding]:
    """One finding for each text that more than that share of at least four pieces, and at least three, have in common.

    Pieces whose annotated names are known and all the same may read the same: four sheep are four sheep.
    """
    said = {key: normalize_name(text) for key, text in pieces.items()}
    findings = []
    for text, count in Counter(said.values()).items():
        same = tuple(key for key, other in said.items() if other == text)
        known = {(names or {}).get(key) or "" for key in same}
        is_known = len(known) == 1 and known != {""}
        if count >= 3 and len(pieces) >= 4 and count > max_share * len(pieces) and not is_known:
            findings.append(Finding("repetitive", f"{', '.join(same)} all read {shortened(text)!r}", same))
    return findings


def shortened(text: str, length: int = 80) -> str:
    """The beginning of a text on one line, for messages."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."

"""A conversation about the tags: read from "Q: ... / A: ..." lines, and checked against the sidecar."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data_gen.checks.findings import Finding, Limits
from data_gen.checks.labels import Labels
from data_gen.checks.wording import hedge_findings, piece_findings, repetition_findings, shortened
from llava_som.marks.parse import normalize_name

_SPEAKER = re.compile(
    r"^[ \t>*-]*(?:\d+[.)][ \t]*)?(?P<who>Q|A|Question|Answer|User|Human|Person|Assistant)[ \t]*\d*[ \t]*:[ \t]*",
    re.MULTILINE,
)
_ASKING = frozenset({"Q", "Question", "User", "Human", "Person"})


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str


def parse_dialogue(text: str) -> list[Exchange] | None:
    """The exchanges of a conversation; None where questions and answers do not alternate.

    What stands before the first question, and behind a blank line after the last answer, is not part of it.
    """
    text = text.replace("\r\n", "\n").replace("**", "")
    found = list(_SPEAKER.finditer(text))
    ends = [*(match.start() for match in found), len(text)][1:]
    said = [(match["who"] in _ASKING, text[match.end() : end].strip()) for match, end in zip(found, ends, strict=True)]
    if not said or len(said) % 2 or any(asks is not (place % 2 == 0) for place, (asks, _) in enumerate(said)):
        return None
    texts = [" ".join(words.split()) for _, words in said[:-1]]
    texts.append(" ".join(re.split(r"\n[ \t]*\n", said[-1][1])[0].split()))
    return [Exchange(*pair) for pair in zip(texts[::2], texts[1::2], strict=True)]


def dialogue_text(exchanges: Sequence[Exchange]) -> str:
    """The conversation in the form that `parse_dialogue` reads."""
    return "\n".join(f"Q: {exchange.question}\nA: {exchange.answer}" for exchange in exchanges)


def dialogue_findings(
    exchanges: Sequence[Exchange] | None, labels: Labels, turns: tuple[int, int], limits: Limits
) -> list[Finding]:
    """What is wrong with a conversation that should have that many exchanges (fewest, most)."""
    if exchanges is None:
        return [Finding("no alternating questions and answers", "it is not written as Q: and A: lines in turn")]
    questions = {f"question {number}": exchange.question for number, exchange in enumerate(exchanges, start=1)}
    answers = {f"answer {number}": exchange.answer for number, exchange in enumerate(exchanges, start=1)}
    findings = [
        *_number_findings(len(exchanges), turns),
        *_tag_findings(exchanges, labels),
        *piece_findings(questions, limits.max_words),
        *piece_findings(answers, limits.max_words),
        *hedge_findings(answers, limits.max_hedged),
        *repetition_findings(answers, limits.max_identical),
    ]
    asked = Counter(normalize_name(question) for question in questions.values())
    twice = [question for question in questions.values() if asked[normalize_name(question)] > 1]
    if twice:
        findings.append(Finding("asks the same twice", shortened(twice[0])))
    return findings


def _number_findings(count: int, turns: tuple[int, int]) -> list[Finding]:
    fewest, most = turns
    if count < fewest:
        return [Finding("too few questions", f"{count}, fewer than {fewest}")]
    return [Finding("too many questions", f"{count}, more than {most}")] if count > most else []


def _tag_findings(exchanges: Sequence[Exchange], labels: Labels) -> list[Finding]:
    cited = labels.cited("\n".join(f"{exchange.question}\n{exchange.answer}" for exchange in exchanges))
    invented = tuple(label for label in cited if label not in labels.names)
    if invented:
        return [Finding("invented tags", ", ".join(invented), invented)]
    return [] if cited else [Finding("no tag is cited", "no question or answer names a tag")]

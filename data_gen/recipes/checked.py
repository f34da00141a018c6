"""Asking with checks: one request, one chance to repair what is wrong, and only then an answer or a rejection.

Items of the first answer that were right are kept, so a list is not lost to a single tag that was overlooked. Answers
from the annotation itself go through the same checks and are never asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from data_gen.checks.dialogue import Exchange, dialogue_findings, parse_dialogue
from data_gen.checks.findings import Finding, Limits, ListLimits, joined_answers, reject
from data_gen.checks.labels import Labels
from data_gen.checks.listing import OUT_OF_ORDER, id_findings, item_findings, reference_findings
from data_gen.checks.wording import is_refusal, piece_findings, placeholder_findings, shortened, text_findings
from data_gen.prompts.repair import repair_dialogue, repair_list
from data_gen.recipes.base import Recipe
from data_gen.requests import Answer, Message, Rejected, Request, Turn
from llava_som.config_file import option
from llava_som.marks.labels import LabelledItem

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

T = TypeVar("T")
Asking = Generator[Request, Answer, T]
TOKENS_PER_WORD = 2  # generous for English
_TOO_MANY = 16_384  # no answer is as long; keeps max_tokens within what servers accept


@dataclass(frozen=True, kw_only=True)
class CheckedRecipe(Limits, Recipe):
    """A recipe whose answers are checked; the limits are its options."""

    examples: bool = option(True, help="show a model two worked examples before the question")


@dataclass(frozen=True, kw_only=True)
class ListTask:
    """A list that is wanted: of which tags, with which annotated names, and what else its texts have to satisfy."""

    labels: Labels
    names: Mapping[str, str | None]
    limits: ListLimits
    more_checks: Callable[[Mapping[str, str]], list[Finding]] = lambda texts: []

    def findings(self, items: Sequence[LabelledItem]) -> list[Finding]:
        """The faults of the items, which are sorted before they are used: their order is none."""
        first = {item.label: item.text for item in reversed(items)}
        texts = {label: first[label] for label in self.labels.names if label in first}
        return [
            *(finding for finding in id_findings(items, self.labels) if finding.kind != OUT_OF_ORDER),
            *item_findings(texts, self.names, self.limits),
            *reference_findings(texts, self.labels),
            *self.more_checks(texts),
            *(text_findings("\n".join(texts.values())) if texts else []),
        ]

    def truth_findings(self, texts: Mapping[str, str]) -> list[Finding]:
        """The faults of the annotation's own list. It may hold "letter a" and "I cannot": nobody broke off."""
        pieces = piece_findings(texts, self.limits.max_words)
        unfit = [finding for finding in pieces if finding.kind in ("empty", "too long")]
        return [*placeholder_findings("\n".join(texts.values())), *unfit, *self.more_checks(texts)]


def ask_list(request: Request, task: ListTask, truth: Mapping[str, str]) -> Asking[dict[str, str]]:
    """{label: text} of every tag, in counting order.

    Args:
        request: what is asked first.
        task: what the list has to satisfy.
        truth: what `request.truth` says, as {label: text} in counting order; of the tags that the annotation knows.

    Raises:
        Rejected: the list has faults, also after they were named once.
    """
    answer = yield request
    if answer.text == request.truth:
        if findings := task.truth_findings(truth):
            raise reject(findings, answer.text)
        return dict(truth)
    items = task.labels.items(answer.text)
    findings = _with_refusal(task.findings(items), answer.text)
    if not findings:
        return _sorted_texts(items, task.labels, answer.text)

    faulty = [label for label in task.labels.names if any(label in finding.labels for finding in findings)]
    is_whole = not faulty or any(not finding.labels or finding.kind == "invented tags" for finding in findings)
    message = repair_list(findings, faulty, is_whole or len(faulty) == len(task.labels.names))
    again = yield from _ask_again(repair_request(request, answer.text, message), answer.text)
    merged = _merged(items, task.labels.items(again.text), () if is_whole else faulty, task.labels)
    findings = _with_refusal(task.findings(merged), again.text)
    if findings:
        raise reject(findings, answer.text, again.text)
    return _sorted_texts(merged, task.labels, answer.text + "\n" + again.text)


def ask_dialogue(request: Request, labels: Labels, turns: tuple[int, int], limits: Limits) -> Asking[list[Exchange]]:
    """The conversation that was asked for.

    Raises:
        Rejected: it has faults, also after they were named once.
    """
    answer = yield request
    exchanges, findings = _read_dialogue(answer.text, labels, turns, limits)
    if not findings:
        return exchanges
    if answer.text == request.truth:
        raise reject(findings, answer.text)
    again = yield from _ask_again(repair_request(request, answer.text, repair_dialogue(findings)), answer.text)
    exchanges, findings = _read_dialogue(again.text, labels, turns, limits)
    if findings:
        raise reject(findings, answer.text, again.text)
    return exchanges


def repair_request(request: Request, answer: str, message: str) -> Request:
    """The request again, with the answer it got and what is wrong with it; the annotation has no other answer."""
    said = answer.strip() or "(nothing)"  # servers refuse an empty message
    messages = (*request.messages, Message("assistant", said), Message("user", message))
    return replace(request, messages=messages, truth=None, no_truth="it has no second answer")


def turns_of(exchanges: Sequence[Exchange]) -> list[Turn]:
    """Questions and answers as a training conversation; the picture stands before the first question."""
    turns = []
    for number, exchange in enumerate(exchanges):
        image = "<image>\n" if number == 0 else ""
        turns += [Turn("human", f"{image}{exchange.question}"), Turn("gpt", exchange.answer)]
    return turns


def labels_and_names(record: MarkRecord) -> tuple[Labels, dict[str, str | None]]:
    """The labels of a record, checked, and {label: annotated name on one line, or None}."""
    if not record.marks:
        raise Rejected("no marks", "there is nothing to ask about")
    names = {mark.label: " ".join((mark.category or "").split()) or None for mark in record.marks}
    return Labels.of([*names]), names


def token_limit(words: int) -> int:
    """`max_tokens` for an answer of that many words."""
    return min(64 + TOKENS_PER_WORD * words, _TOO_MANY)


def check_turns(turns: tuple[int, int]) -> None:
    """A ValueError where the fewest and most questions make no range."""
    if not 1 <= turns[0] <= turns[1]:
        raise ValueError(f"turns={list(turns)}: give the fewest and the most questions, at least 1.")


def _ask_again(request: Request, first: str) -> Asking[Answer]:
    """The second answer; where the annotator refuses to give one, the first is not forgotten."""
    try:
        return (yield request)
    except Rejected as error:
        error.answer = joined_answers([first, error.answer])
        raise


def _read_dialogue(
    text: str, labels: Labels, turns: tuple[int, int], limits: Limits
) -> tuple[list[Exchange], list[Finding]]:
    exchanges = parse_dialogue(text)
    said = "\n".join(f"{exchange.question}\n{exchange.answer}" for exchange in exchanges or [])
    findings = [*text_findings(said or text), *dialogue_findings(exchanges, labels, turns, limits)]
    return exchanges or [], findings


def _with_refusal(findings: list[Finding], raw: str) -> list[Finding]:
    """A list with gaps may be one because the annotator refuses; behind a whole list, such words are only chatter."""
    is_short = any(finding.kind == "missing tags" for finding in findings)
    refuses = is_short and is_refusal(raw) and not any(finding.kind == "refusal" for finding in findings)
    return [Finding("refusal", shortened(raw)), *findings] if refuses else findings


def _merged(
    first: Sequence[LabelledItem], second: Sequence[LabelledItem], faulty: Sequence[str], labels: Labels
) -> list[LabelledItem]:
    """One item for each tag: the first answer's unless it was faulty, then the second's (`faulty` empty: all were)."""
    old = {item.label: item for item in reversed(first)}
    new = {item.label: item for item in reversed(second)}
    chosen = []
    for label in labels.names:
        sources = (new, old) if label in faulty or not faulty else (old, new)
        chosen += [source[label] for source in sources if label in source][:1]
    return chosen


def _sorted_texts(items: Sequence[LabelledItem], labels: Labels, raw: str) -> dict[str, str]:
    """{label: text} in counting order; full stops, which reading removes, as most of the items had them."""
    texts = {item.label: item.text for item in items}
    stops = sum(bool(re.search(re.escape(text) + r"\.(?=[\s\"'*]|$)", raw)) for text in texts.values())
    stop = "." if 2 * stops > len(texts) else ""
    return {label: texts[label] if texts[label].endswith(("?", "!")) else texts[label] + stop for label in labels.names}

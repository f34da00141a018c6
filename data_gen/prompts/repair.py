"""The one request that follows an answer with faults: what exactly is wrong, and what to write again."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.checks.findings import Finding
from data_gen.english import listed

# By the kind of a finding; {tags} are the tags, or the questions and answers, that it concerns, {detail} its details.
FAULTS = {
    "missing tags": "You left out {tags}.",
    "invented tags": "There is no {tags} in the picture.",
    "repeated tags": "You listed {tags} more than once.",
    "empty": "Your text for {tags} is empty.",
    "too long": "Your text for {tags} is too long.",
    "goes round in circles": "Your text for {tags} repeats itself.",
    "cut off": "Your text for {tags} stops in the middle.",
    "mostly unsure": "Your text for {tags} is unsure; say at least what can be seen.",
    "repetitive": "Your text for {tags} is the same; say what sets each apart.",
    "disagrees with the annotation": "Look again at what is under {tags}; you named something else.",
    "not unique": "Your descriptions do not tell {tags} from each other.",
    "speaks of tags": "Your text for {tags} mentions a tag; describe the thing itself.",
    "refers to invented tags": "Your text for {tags} refers to a tag that is not in the picture.",
    "items that run into each other": "Some items run into each other: put no further tags or lists into them.",
    "refusal": "Nobody has to be identified: only say what kind of thing is seen.",
    "placeholder in the text": "Do not write <image>.",
    "no alternating questions and answers": "Begin every question with 'Q: ' and every answer with 'A: ', in turn.",
    "too few questions": "The number of questions is wrong: {detail}.",
    "too many questions": "The number of questions is wrong: {detail}.",
    "no tag is cited": "Neither the questions nor the answers name a tag.",
    "asks the same twice": "One question is asked twice: {detail}",
    "empty answer": "Your answer was empty.",
}
_AGAIN = "Write {what} again in the same form as before, and nothing else."


def repair_list(findings: Sequence[Finding], wanted: Sequence[str], is_whole: bool) -> str:
    """What to say about a list with these faults, to get the items of the tags `wanted` (all of them: `is_whole`)."""
    what = (
        "the whole list" if is_whole else f"only {'the line' if len(wanted) == 1 else 'the lines'} for {_named(wanted)}"
    )
    return f"{_faults(findings)} {_AGAIN.format(what=what)}"


def repair_dialogue(findings: Sequence[Finding]) -> str:
    """What to say about a conversation with these faults, to get a better one."""
    return f"{_faults(findings)} {_AGAIN.format(what='the whole conversation')}"


def _faults(findings: Sequence[Finding]) -> str:
    return " ".join(
        FAULTS[finding.kind].format(tags=_named(finding.labels) if finding.labels else "", detail=finding.detail)
        for finding in findings
    )


def _named(labels: Sequence[str]) -> str:
    """As in a sentence: "tag 3", "tags 3 and 5"; "answer 2", which says what it is, stays as it is."""
    if " " in labels[0]:
        return listed(labels)
    return f"tag{'s' * (len(labels) > 1)} {listed(labels)}"

"""A list of all marks against the sidecar: every tag once, none invented, each with words that can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from data_gen.checks.agreement import names_match
from data_gen.checks.findings import Finding, ListLimits
from data_gen.checks.labels import Labels
from data_gen.checks.wording import hedge_findings, piece_findings, repetition_findings
from llava_som.marks.labels import LabelledItem, rank
from llava_som.marks.parse import normalize_name

OUT_OF_ORDER = "out of order"


def list_text(texts: Mapping[str, str], style: str = "lines") -> str:
    """The list {label: text} in the form that `Labels.items` reads; `style` is "lines" or "sentence"."""
    if style == "lines":
        return "\n".join(f"{label}. {text}" for label, text in texts.items())
    return ", ".join(f"{label}. {text.rstrip('.')}" for label, text in texts.items()) + "."


def id_findings(items: Sequence[LabelledItem], labels: Labels) -> list[Finding]:
    """Which tags the list leaves out, makes up or repeats, and whether it keeps their order."""
    listed = [item.label for item in items]
    known = set(labels.names)
    faults = {
        "missing tags": [label for label in labels.names if label not in listed],
        "invented tags": sorted({label for label in listed if label not in known}, key=rank),
        "repeated tags": sorted((label for label, count in Counter(listed).items() if count > 1), key=rank),
    }
    findings = [Finding(kind, ", ".join(found), tuple(found)) for kind, found in faults.items() if found]
    kept = [label for label in listed if label in known]
    if kept != sorted(kept, key=rank):
        findings.append(Finding(OUT_OF_ORDER, ", ".join(kept)))
    return findings


def item_findings(texts: Mapping[str, str], names: Mapping[str, str | None], limits: ListLimits) -> list[Finding]:
    """What is wrong with the words of a list {label: text}, given the annotated name of each mark (None: unknown)."""
    findings = [
        *piece_findings(texts, limits.max_words),
        *hedge_findings(texts, limits.max_hedged),
        *repetition_findings(texts, limits.max_identical, names),
    ]
    known = [label for label in texts if names.get(label)]
    wrong = tuple(label for label in known if not names_match(names[label] or "", texts[label]))
    if limits.min_agreement is not None and known and len(known) - len(wrong) < limits.min_agreement * len(known):
        said = ", ".join(f"{label} is annotated {names[label]!r}" for label in wrong)
        findings.append(Finding("disagrees with the annotation", said, wrong))
    return findings


def uniqueness_findings(texts: Mapping[str, str]) -> list[Finding]:
    """One finding with all tags whose descriptions fit another tag as well, word for word."""
    said = {label: normalize_name(text) for label, text in texts.items()}
    count = Counter(said.values())
    shared = tuple(label for label, text in said.items() if count[text] > 1)
    return [Finding("not unique", ", ".join(shared), shared)] if shared else []


def mention_findings(texts: Mapping[str, str], labels: Labels) -> list[Finding]:
    """One finding with the items that speak of tags themselves."""
    found = tuple(label for label, text in texts.items() if labels.cited(text))
    return [Finding("speaks of tags", ", ".join(found), found)] if found else []


def reference_findings(texts: Mapping[str, str], labels: Labels) -> list[Finding]:
    """One finding with the items that refer to a tag no mark has ("behind the boat tagged 12")."""
    found = {
        label: [cited for cited in labels.cited(text) if cited not in labels.names] for label, text in texts.items()
    }
    wrong = tuple(label for label, cited in found.items() if cited)
    detail = "; ".join(f"{label} refers to {', '.join(found[label])}" for label in wrong)
    return [Finding("refers to invented tags", detail, wrong)] if wrong else []

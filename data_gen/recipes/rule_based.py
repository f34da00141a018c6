"""Questions and answers from the sidecar alone, each certain: counts, places, sizes, colours, kinds.

Every kind of question is a stream of random candidates. `rule_dialogue` draws from the streams in turn, so that no kind
dominates, asks nothing twice, and never asks for a name that has been said. Yes and no are equally likely by design:
which of the two is wanted is drawn before the things are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from data_gen.checks.dialogue import Exchange
from data_gen.english import Noun, listed, number_word, sentence
from data_gen.geometry import OPPOSITE, Direction
from data_gen.recipes import questions as q
from data_gen.recipes.subjects import Scene, Subject, tags
from llava_som.marks.labels import rank

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

Kind = Literal["count", "position", "extreme", "nearest", "size", "colour", "same_kind", "which_tag", "name"]
_CANDIDATES = 200  # of one kind looked at for one picture


@dataclass(frozen=True)
class Candidate:
    """An exchange, what it is about (asked once in a conversation), and the tags whose names it asks for and tells."""

    exchange: Exchange
    about: tuple[Any, ...]
    asks: frozenset[str] = frozenset()
    tells: frozenset[str] = frozenset()


def rule_dialogue(record: MarkRecord, rng: Random, turns: tuple[int, int], kinds: Sequence[Kind]) -> list[Exchange]:
    """A conversation of a random length within `turns`; shorter where the sidecar makes no more certain."""
    scene = Scene.of(record)
    streams = {kind: islice(QUESTIONS[kind](scene, rng), _CANDIDATES) for kind in kinds}
    wanted = rng.randint(*turns)
    chosen: list[Candidate] = []
    while streams and len(chosen) < wanted:
        for kind in rng.sample(list(streams), min(len(streams), wanted - len(chosen))):
            found = next((candidate for candidate in streams[kind] if _is_new(candidate, chosen)), None)
            if found is None:
                del streams[kind]
            else:
                chosen.append(found)
    return [candidate.exchange for candidate in chosen]


def _is_new(candidate: Candidate, chosen: Sequence[Candidate]) -> bool:
    told = frozenset().union(*(earlier.tells for earlier in chosen))
    is_told = bool(candidate.asks) and candidate.asks <= told
    return not is_told and all(candidate.about != earlier.about for earlier in chosen)


def _candidate(
    question: str, answer: str, about: tuple[Any, ...], says: Sequence[Subject] = (), asks: Sequence[Subject] = ()
) -> Candidate:
    asked = frozenset(subject.label for subject in asks)
    told = frozenset(subject.label for subject in says if subject.noun)
    return Candidate(Exchange(sentence(question), sentence(answer)), about, asked, told | asked)


def _words(a: Subject, b: Subject | None = None) -> dict[str, str]:
    """The placeholders of the sentences that speak of one or two things."""
    verbs = ("are", "do", "cover", "take") if a.is_plural else ("is", "does", "covers", "takes")
    words = {
        "thing": a.word,
        "a": a.mention,
        "again": a.again,
        "tag": a.label,
        **dict(zip(("is", "does", "covers", "takes"), verbs, strict=True)),
    }
    if b is not None:
        words |= {"b": b.after(a), "other_tag": b.label}
    return words | {key.capitalize(): text[:1].upper() + text[1:] for key, text in words.items()}


def _count(scene: Scene, rng: Random) -> Iterator[Candidate]:
    choices: list[tuple[Noun | None, list[Subject]]] = [*scene.countable_groups, (None, list(scene.subjects))]
    for noun, group in rng.sample(choices, len(choices)):
        if noun is None:
            if len(group) > 1:
                yield _count_all([subject.label for subject in group], scene.word, rng)
            continue
        number = number_word(len(group))
        words = {"noun": noun.text, "plural": noun.plural, "label": group[0].label, "tags": tags(group)}
        words |= {"thing": scene.word}
        words |= {"number": number, "Number": number.capitalize()}
        answers = q.COUNT_ANSWER if len(group) > 1 else q.COUNT_ONE_ANSWER
        question = rng.choice(q.COUNT).format(**words)
        yield _candidate(question, rng.choice(answers).format(**words), ("count", noun.text), asks=group)


def _count_all(labels: Sequence[str], thing: str, rng: Random) -> Candidate:
    words = {"thing": thing, "number": number_word(len(labels)), "labels": listed(labels)}
    words |= {"first": labels[0], "last": labels[-1]}
    is_range = rank(labels[-1]) - rank(labels[0]) == len(labels) - 1 > 1
    answer = rng.choice(q.RANGE_ANSWER if is_range else q.COUNT_ALL_ANSWER)
    return _candidate(rng.choice(q.COUNT_ALL).format(**words), answer.format(**words), ("count",))


def _pairs(scene: Scene, rng: Random) -> Iterator[tuple[Subject, Subject]]:
    pairs = list(combinations(scene.subjects, 2))
    for a, b in rng.sample(pairs, min(len(pairs), _CANDIDATES)):
        yield (a, b) if rng.random() < 0.5 else (b, a)


def _position(scene: Scene, rng: Random) -> Iterator[Candidate]:
    for a, b in _pairs(scene, rng):
        found = scene.layout.directions(a.thing, b.thing)
        if not found:
            continue
        ask = rng.choice((_is_towards, _is_towards, _where, _which_of_two))
        question, answer = ask(a, b, found, rng)
        yield _candidate(question, answer, ("pair", frozenset({a.label, b.label})), says=(a, b))


def _is_towards(a: Subject, b: Subject, found: Sequence[Direction], rng: Random) -> tuple[str, str]:
    true, words = rng.choice(list(found)), _words(a, b)
    is_so = rng.random() < 0.5
    asked = true if is_so else OPPOSITE[true]
    question = rng.choice(q.IS_TOWARDS).format(towards=q.TOWARDS[asked], **words)
    yes_or_no = "Yes" if is_so else "No"
    return question, f"{yes_or_no}, {a.again} {a.is_or_are} {q.TOWARDS[true]} {b.after(a)}"


def _where(a: Subject, b: Subject, found: Sequence[Direction], rng: Random) -> tuple[str, str]:
    upright_first = sorted(found, key=lambda direction: direction in ("left", "right"))
    place = " and ".join(q.TOWARDS[direction] for direction in upright_first)
    question = rng.choice(q.WHERE).format(**_words(a, b))
    return question, f"{a.again} {a.is_or_are} {place} {b.after(a)}"


def _which_of_two(a: Subject, b: Subject, found: Sequence[Direction], rng: Random) -> tuple[str, str]:
    direction = rng.choice(list(found))
    first, second = (a, b) if rng.random() < 0.5 else (b, a)
    question = rng.choice(q.WHICH_OF_TWO).format(comparative=q.COMPARATIVE[direction], **_words(first, second))
    return question, f"{a.mention} {a.is_or_are} {q.COMPARATIVE[direction]} than {b.after(a)}"


def _extreme(scene: Scene, rng: Random) -> Iterator[Candidate]:
    groups: list[tuple[Noun | None, list[Subject]]] = [*scene.countable_groups, (None, list(scene.subjects))]
    choices = [(noun, group, direction) for noun, group in groups for direction in OPPOSITE]
    for noun, group, direction in rng.sample(choices, len(choices)):
        found = scene.layout.farthest([subject.thing for subject in group], direction) if len(group) > 1 else None
        if found is None:
            continue
        winner = next(subject for subject in group if subject.thing is found)
        words = {"thing": scene.word, "superlative": q.SUPERLATIVE[direction]}
        words |= {"noun": noun.text, "plural": noun.plural} if noun else {}
        question = rng.choice(q.FARTHEST if noun else q.FARTHEST_OF_ALL).format(**words)
        answer = f"{winner.mention} {winner.is_or_are} {words['superlative']}"
        yield _candidate(question, answer, ("extreme", direction, noun), says=group if noun else (winner,))


def _nearest(scene: Scene, rng: Random) -> Iterator[Candidate]:
    groups: list[tuple[Noun | None, list[Subject]]] = [*scene.countable_groups, (None, list(scene.subjects))]
    choices = [(b, noun, group) for b in scene.subjects for noun, group in groups]
    for b, noun, group in rng.sample(choices, min(len(choices), _CANDIDATES)):
        if (noun and b in group) or len([subject for subject in group if subject is not b]) < 2:
            continue
        found = scene.layout.nearest([subject.thing for subject in group], b.thing)
        if found is None:
            continue
        a = next(subject for subject in group if subject.thing is found)
        words = _words(a) | {"b": b.mention} | ({"noun": noun.text, "plural": noun.plural} if noun else {})
        question = rng.choice(q.NEAREST_OF if noun else q.NEAREST).format(**words)
        answer = rng.choice(q.NEAREST_ANSWER).format(**words)
        yield _candidate(question, answer, ("nearest", b.label), says=(a, b, *(group if noun else ())))


def _size(scene: Scene, rng: Random) -> Iterator[Candidate]:
    for noun, group in rng.sample(scene.countable_groups, len(scene.countable_groups)):
        found = scene.layout.largest([subject.thing for subject in group])
        if len(group) < 3 or found is None:
            continue
        winner = next(subject for subject in group if subject.thing is found)
        question = rng.choice(q.LARGEST).format(noun=noun.text, plural=noun.plural)
        yield _candidate(question, rng.choice(q.LARGEST_ANSWER).format(**_words(winner)), ("largest", noun), says=group)
    for a, b in _pairs(scene, rng):
        for larger, smaller in ((a, b), (b, a)):
            if scene.layout.is_larger(larger.thing, smaller.thing):
                question = rng.choice(q.LARGER).format(**_words(a, b))
                words = _words(larger) | {"b": smaller.after(larger)}
                answer = rng.choice(q.LARGER_ANSWER).format(**words)
                yield _candidate(question, answer, ("size", frozenset({a.label, b.label})), says=(a, b))


def _colour(scene: Scene, rng: Random) -> Iterator[Candidate]:
    coloured = [subject for subject in scene.subjects if subject.colour]
    choices: list[Subject | None] = [*coloured]
    if len(coloured) == len(scene.subjects) > 2:
        choices.append(None)  # what is of a colour, which takes a picture whose colours are all known
    for a in rng.sample(choices, len(choices)):
        if a is None:
            yield _of_colour(coloured, scene.word, rng)
            continue
        alike = [b for b in coloured if b is not a and b.colour == a.colour]
        unlike = [b for b in coloured if b.colour != a.colour]
        shape = rng.choice(["open", *["yes or no"] * bool(unlike), *["same"] * bool(alike and unlike)])
        if shape == "open":
            words = _words(a) | {"colour": str(a.colour)}
            question, answer = rng.choice(q.COLOUR).format(**words), rng.choice(q.COLOUR_ANSWER).format(**words)
            yield _candidate(question, answer, ("colour", a.label), says=(a,))
        elif shape == "same":
            yield _same_colour(a, rng.choice(rng.choice((alike, unlike))), rng)
        else:
            yield _has_colour(a, str(rng.choice((a, rng.choice(unlike))).colour), rng)


def _of_colour(coloured: Sequence[Subject], thing: str, rng: Random) -> Candidate:
    colour = str(rng.choice(coloured).colour)
    group = [subject for subject in coloured if subject.colour == colour]
    words = {"thing": thing, "colour": colour, "tags": tags(group)}
    words |= {"Tags": tags(group).capitalize(), "mark": "marks" if len(group) == 1 else "mark"}
    question, answer = rng.choice(q.OF_COLOUR).format(**words), rng.choice(q.OF_COLOUR_ANSWER).format(**words)
    return _candidate(question, answer, ("of colour", colour))


def _same_colour(a: Subject, b: Subject, rng: Random) -> Candidate:
    words = _words(a, b)
    question = rng.choice(q.SAME_COLOUR).format(**words)
    different = f"No. {words['A']} {a.is_or_are} {a.colour}, while {b.after(a)} {b.is_or_are} {b.colour}"
    answer = f"Yes, both are {a.colour}" if a.colour == b.colour else different
    return _candidate(question, answer, ("colours", frozenset({a.label, b.label})), says=(a, b))


def _has_colour(a: Subject, asked: str, rng: Random) -> Candidate:
    question = rng.choice(q.HAS_COLOUR).format(colour=asked, **_words(a))
    answer = f"{'Yes' if asked == a.colour else 'No'}, {a.again} {a.is_or_are} {a.colour}"
    return _candidate(question, answer, ("colour", a.label), says=(a,))


def _same_kind(scene: Scene, rng: Random) -> Iterator[Candidate]:
    members = [(subject, noun, group) for noun, group in scene.countable_groups for subject in group]
    for a, noun, group in rng.sample(members, len(members) if len(scene.subjects) > 2 else 0):
        others = [subject for subject in group if subject is not a]
        question, some, none = rng.choice(q.SAME_KIND)
        number = len(others)
        words = {"tag": a.label, "noun": noun.text, "plural": noun.plural, "name": noun.indefinite}
        words |= {"thing": scene.word, "do": "does", "mark": "marks", "all": "both"}
        words |= {"noun_or_plural": noun.text, "one_or_more": noun.indefinite}
        if number > 1:
            words |= {"do": "do", "mark": "mark", "all": f"all {number_word(number + 1)}"}
            words |= {"noun_or_plural": noun.plural, "one_or_more": noun.plural}
        if others:
            words |= {"others": tags(others), "Others": tags(others).capitalize()}
            words |= {"Number": number_word(number).capitalize()}
        answer = (some if others else none).format(**words)
        yield _candidate(question.format(**words), answer, ("kind", noun.text), says=group, asks=group)


def _which_tag(scene: Scene, rng: Random) -> Iterator[Candidate]:
    single = [group[0] for group in scene.clear_groups if len(group) == 1 and scene.is_all(group[0])]
    for a in rng.sample(single, len(single)):
        assert a.noun is not None
        words = {"the": f"the {a.noun.text}", "The": f"The {a.noun.text}", "label": a.label, "is": a.is_or_are}
        words["word"] = "number" if a.label.isdigit() else "letter"
        question, answer = rng.choice(q.WHICH_TAG).format(**words), rng.choice(q.WHICH_TAG_ANSWER).format(**words)
        yield _candidate(question, answer, ("name", a.label), asks=(a,))


def _name(scene: Scene, rng: Random) -> Iterator[Candidate]:
    named = [subject for subject in scene.subjects if subject.noun]
    for a in rng.sample(named, len(named)):
        assert a.noun is not None
        others = [b for b in named if scene.differ(a, b)]
        is_open, is_so = rng.random() < 0.5 or not others, rng.random() < 0.5
        name = a.noun.indefinite
        if is_open:
            question = rng.choice(q.NAME).format(tag=a.label, thing=a.word)
            answer = rng.choice(q.NAME_ANSWER[: 2 - a.is_plural]).format(tag=a.label, name=name)
        elif is_so:
            question = rng.choice(q.IS_ON).format(tag=a.label, name=name, thing=a.word)
            answer = f"Yes, tag {a.label} marks {name}"
        else:
            other = rng.choice(others).noun
            assert other is not None
            question = rng.choice(q.IS_ON).format(tag=a.label, name=other.indefinite, thing=a.word)
            answer = f"No, tag {a.label} marks {name}"
        yield _candidate(question, answer, ("name", a.label), asks=(a,))


QUESTIONS: dict[Kind, Callable[[Scene, Random], Iterator[Candidate]]] = {
    "count": _count,
    "position": _position,
    "extreme": _extreme,
    "nearest": _nearest,
    "size": _size,
    "colour": _colour,
    "same_kind": _same_kind,
    "which_tag": _which_tag,
    "name": _name,
}

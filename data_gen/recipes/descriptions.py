"""The shortest description of each marked thing that fits no other: "the dog", "the red cup", "the leftmost person".

From the sidecar alone, so a thing gets one only where its class is clear and the relation certain: neighbours who stand
about level get no "left" and "right".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from data_gen.english import ordinal, spoken
from data_gen.geometry import OPPOSITE, Direction, Thing
from data_gen.recipes.questions import TOWARDS
from data_gen.recipes.subjects import COLOURS, PEOPLE, Scene, Subject

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

_OF_TWO: dict[Direction, str] = {
    "left": "on the left",
    "right": "on the right",
    "above": "higher up",
    "below": "lower down",
}


def unique_descriptions(record: MarkRecord) -> dict[str, str]:
    """{label: description} of the marks that have one, in the order of the marks; {} where some mark has no name.

    None of a class of which something is seen without a tag: "the dog" would be two dogs.
    """
    scene = Scene.of(record)
    told = [subject for subject in scene.subjects if scene.is_clear(subject) and scene.is_all(subject)]
    found = {subject.label: _shortest(scene, subject) for subject in told}
    return {label: text for label, text in found.items() if text}


def _shortest(scene: Scene, subject: Subject) -> str | None:
    return min(_descriptions(scene, subject), key=lambda text: len(text.split()), default=None)


def _descriptions(scene: Scene, subject: Subject) -> Iterator[str]:
    group = scene.groups[subject.kind]
    others = [other for other in group if other is not subject]
    if not others:
        if subject.noun:
            yield f"the {subject.noun.text}"
        elif scene.word == "thing" and subject.kind:
            yield spoken(subject.thing.mark.category or "")
        return
    if subject.noun is None:
        return
    yield from _by_adjectives(subject, others)
    if subject.noun.is_one_of_several:
        yield from _by_place(scene, subject, group)
        yield from _by_neighbour(scene, subject, group)


def _by_adjectives(subject: Subject, others: Sequence[Subject]) -> Iterator[str]:
    assert subject.noun is not None
    colours_last = sorted(subject.adjectives, key=lambda word: word in COLOURS)
    for count in (1, 2):
        for words in combinations(colours_last, count):
            if all(any(_certainly_lacks(other, subject, word) for word in words) for other in others):
                yield f"the {' '.join(words)} {subject.noun.text}"


def _certainly_lacks(other: Subject, subject: Subject, word: str) -> bool:
    """Annotations are seldom complete: only a thing that has a colour of its own is known not to have another."""
    if word in COLOURS:
        return None not in (other.colour, subject.colour) and other.colour != subject.colour
    return bool(other.adjectives) and word not in other.adjectives


def _by_place(scene: Scene, subject: Subject, group: Sequence[Subject]) -> Iterator[str]:
    assert subject.noun is not None
    name, layout, things = subject.noun.text, scene.layout, [member.thing for member in group]
    most: dict[Direction, str] = {
        "left": f"the leftmost {name}",
        "right": f"the rightmost {name}",
        "above": f"the topmost {name}",
        "below": f"the {name} furthest down",
    }
    for direction, text in most.items():
        if layout.farthest(things, direction) is subject.thing:
            yield f"the {name} {_OF_TWO[direction]}" if len(group) == 2 else text
    if subject.noun.head not in PEOPLE:  # how large people look says how near they are
        if layout.largest(things) is subject.thing:
            yield f"the {name} that looks {'larger' if len(group) == 2 else 'largest'}"
        if layout.smallest(things) is subject.thing:
            yield f"the {name} that looks {'smaller' if len(group) == 2 else 'smallest'}"
    for direction, side in (("left", "left"), ("right", "right"), ("above", "top")):
        row = layout.in_order(things, direction)  # type: ignore[arg-type]
        if row and row.index(subject.thing) > 0:
            yield f"the {ordinal(row.index(subject.thing) + 1)} {name} from the {side}"


def _by_neighbour(scene: Scene, subject: Subject, group: Sequence[Subject]) -> Iterator[str]:
    assert subject.noun is not None
    layout, others = scene.layout, [member.thing for member in group if member is not subject]
    things: list[Thing] = [member.thing for member in group]
    for anchors in scene.clear_groups:
        (anchor, *more) = anchors
        if more or anchor.noun is None or anchor in group or not scene.is_all(anchor):
            continue
        place = f"the {anchor.noun.text}"
        for direction in OPPOSITE:
            is_there = layout.lies(subject.thing, direction, anchor.thing)
            if is_there and all(layout.lies_not(other, direction, anchor.thing) for other in others):
                yield f"the {subject.noun.text} {TOWARDS[direction]} {place}"
        if layout.nearest(things, anchor.thing) is subject.thing:
            yield f"the {subject.noun.text} nearest to {place}"

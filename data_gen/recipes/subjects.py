"""The marked things as sentences speak of them: their nouns and adjectives, and which of them are of one kind.

A statement about a class ("how many cups are tagged?") is certain only if no other name in the picture might mean the
same: beside "red cup" or "mug", nobody can count the cups. `Scene.is_clear` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from data_gen.checks.agreement import are_synonyms
from data_gen.english import Noun, caption, listed, noun, spoken, words
from data_gen.geometry import Layout, Thing, is_screen
from llava_som.marks.labels import rank
from llava_som.marks.parse import normalize_name

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

COLOURS = words("""
    beige black blue brown cream cyan gold golden gray green grey magenta maroon navy orange pink purple red silver tan
    teal turquoise violet white yellow
""")
PEOPLE = words("""
    adult baby boy child cyclist girl guy kid lady man person player rider skier surfer toddler woman
""")


@dataclass(frozen=True, eq=False)
class Subject:
    """A marked thing with its words; `noun` is None where it has no name that can be said.

    Attributes:
        thing: where it is.
        word: what it is called without a name: "thing", or "element" on a screen, whose names are quoted texts.
    """

    thing: Thing
    word: str = "thing"

    @property
    def label(self) -> str:
        """What its tag says."""
        return self.thing.label

    @cached_property
    def adjectives(self) -> tuple[str, ...]:
        """The attributes that are single words, in the order given; those of an element say how it is programmed."""
        if self.word == "element":
            return ()
        given = (word.strip().lower() for word in self.thing.mark.attributes)
        return tuple(dict.fromkeys(word for word in given if word.isalpha()))

    @cached_property
    def noun(self) -> Noun | None:
        """Its class name without the adjectives in front: the circle of a "red circle" that is annotated as red."""
        if self.word == "element":
            return caption(self.thing.mark.category)
        name = spoken(self.thing.mark.category or "").split()
        while len(name) > 1 and name[0].lower() in self.adjectives:
            name = name[1:]
        return noun(" ".join(name))

    @cached_property
    def kind(self) -> str:
        """What makes it the same kind of thing as another; "" where there is no name."""
        return normalize_name(self.noun.text if self.noun else spoken(self.thing.mark.category or ""))

    @property
    def colour(self) -> str | None:
        """Its colour, where the annotation gives exactly one."""
        colours = [word for word in self.adjectives if word in COLOURS]
        return colours[0] if len(colours) == 1 else None

    @property
    def mention(self) -> str:
        """With its tag: "the dog tagged 3", or "the thing tagged 3"."""
        return f"the {self.noun.text if self.noun else self.word} tagged {self.label}"

    @property
    def again(self) -> str:
        """The same, said a second time: "it", "they"; people are no "it" and are mentioned again."""
        if self.noun and self.noun.head.lower() in PEOPLE:
            return self.mention
        return "they" if self.is_plural else "it"

    @property
    def is_plural(self) -> bool:
        """Whether it takes a verb in the plural."""
        return self.noun is not None and self.noun.is_plural

    @property
    def is_or_are(self) -> str:
        """The verb that goes with it."""
        return "are" if self.is_plural else "is"

    def after(self, other: Subject) -> str:
        """The mention behind one of `other`: "the one tagged 5" where both are of one kind."""
        if self.noun and self.kind == other.kind and self.noun.is_countable:
            return f"the one tagged {self.label}"
        return self.mention


@dataclass(frozen=True, eq=False)
class Scene:
    """The marked things of one picture in the order of their tags, and how they lie.

    Attributes:
        layout: how they lie.
        subjects: the things.
        unmarked: the kinds of what can be seen in the picture and has no tag; "" for one without a name.
        word: what a thing is called, see `Subject`.
    """

    layout: Layout
    subjects: tuple[Subject, ...]
    unmarked: tuple[str, ...] = ()
    word: str = "thing"

    @classmethod
    def of(cls, record: MarkRecord) -> Scene:
        """The marks of a sidecar, and the names of what can be seen without one."""
        layout, word = Layout.of(record), "element" if is_screen(record) else "thing"
        things = sorted(layout.things, key=lambda thing: rank(thing.label))
        seen = [region for region in record.skipped if region.area_visible]  # not: duplicates, what is covered
        unmarked = tuple(Subject(Thing(region), word).kind for region in seen)
        return cls(layout, tuple(Subject(thing, word) for thing in things), unmarked, word)

    @cached_property
    def groups(self) -> dict[str, list[Subject]]:
        """The named things by kind."""
        found: dict[str, list[Subject]] = {}
        for subject in self.subjects:
            if subject.kind:
                found.setdefault(subject.kind, []).append(subject)
        return found

    @cached_property
    def clear_groups(self) -> list[list[Subject]]:
        """The groups with a noun that statements about a class are certain for."""
        return [group for group in self.groups.values() if group[0].noun and self.is_clear(group[0])]

    @cached_property
    def countable_groups(self) -> list[tuple[Noun, list[Subject]]]:
        """Those that "how many" can be asked about, each with its noun."""
        nouns = [(group[0].noun, group) for group in self.clear_groups]
        return [(name, group) for name, group in nouns if name and name.is_countable]

    def differ(self, subject: Subject, other: Subject) -> bool:
        """Whether the two are certainly of different kinds."""
        return bool(subject.kind and other.kind) and not self._may_be_same(subject.kind, other.kind)

    def is_clear(self, subject: Subject) -> bool:
        """Whether no other marked thing might be called the same; never where one has no name. Texts are exact."""
        if self.word == "element":
            return bool(subject.kind)
        if not all(other.kind for other in self.subjects):
            return False
        return not any(self._may_be_same(subject.kind, kind) for kind in self.groups if kind != subject.kind)

    def is_all(self, subject: Subject) -> bool:
        """Whether every thing that can be seen and is called the same has a tag."""
        return not any(self._may_be_same(subject.kind, kind) for kind in self.unmarked)

    def _may_be_same(self, kind: str, other: str) -> bool:
        return kind == other if self.word == "element" else not other or _may_be_same(kind, other)


def tags(subjects: Sequence[Subject]) -> str:
    """Their tags: "tag 2", "tags 2, 4 and 7"."""
    labels = listed([subject.label for subject in subjects])
    return f"tag {labels}" if len(subjects) == 1 else f"tags {labels}"


def _may_be_same(kind: str, other: str) -> bool:
    """Whether things of two kinds might be called the same: "cup" and "red cup", "person" and "man"."""
    first, second = kind.split(), other.split()
    is_part = set(first) <= set(second) or set(second) <= set(first)
    return is_part or first[-1] == second[-1] or are_synonyms(kind, other)

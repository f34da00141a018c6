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
from data_gen.checks.labels import rank
from data_gen.geometry import Layout, Thing
from data_gen.recipes.english import Noun, listed, noun, spoken, words
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
    """A marked thing with its words; `noun` is None where it has no name that can be said."""

    thing: Thing

    @property
    def label(self) -> str:
        """What its tag says."""
        return self.thing.label

    @cached_property
    def adjectives(self) -> tuple[str, ...]:
        """The attributes that are single words, in the order given."""
        given = (word.strip().lower() for word in self.thing.mark.attributes)
        return tuple(dict.fromkeys(word for word in given if word.isalpha()))

    @cached_property
    def noun(self) -> Noun | None:
        """Its class name without the adjectives in front: the circle of a "red circle" that is annotated as red."""
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
        return f"the {self.noun.text if self.noun else 'thing'} tagged {self.label}"

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
    """The marked things of one picture in the order of their tags, and how they lie."""

    layout: Layout
    subjects: tuple[Subject, ...]

    @classmethod
    def of(cls, record: MarkRecord) -> Scene:
        """The marks of a sidecar."""
        layout = Layout.of(record)
        return cls(
            layout, tuple(Subject(thing) for thing in sorted(layout.things, key=lambda thing: rank(thing.label)))
        )

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
        return bool(subject.kind and other.kind) and not _may_be_same(subject.kind, other.kind)

    def is_clear(self, subject: Subject) -> bool:
        """Whether nothing else in the picture might be called the same; never where some thing has no name."""
        if not all(other.kind for other in self.subjects):
            return False
        return not any(_may_be_same(subject.kind, kind) for kind in self.groups if kind != subject.kind)


def tags(subjects: Sequence[Subject]) -> str:
    """Their tags: "tag 2", "tags 2, 4 and 7"."""
    labels = listed([subject.label for subject in subjects])
    return f"tag {labels}" if len(subjects) == 1 else f"tags {labels}"


def _may_be_same(kind: str, other: str) -> bool:
    """Whether things of two kinds might be called the same: "cup" and "red cup", "person" and "man"."""
    first, second = kind.split(), other.split()
    is_part = set(first) <= set(second) or set(second) <= set(first)
    return is_part or first[-1] == second[-1] or are_synonyms(kind, other)

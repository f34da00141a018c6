"""How far a list agrees with the names in the annotation: a share for statistics and, on request, a limit.

Descriptions are freer than class names, so an item agrees when it holds the name, the name's last word ("table" for a
dining table) or a listed synonym. It is a measure of association (right thing under the right tag), no proof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from llava_som.marks.names import spelled_out
from llava_som.marks.parse import normalize_name

# Each row: a class name as data sets write it, then words that people use for some or all of its members.
_ROWS = """
person: man woman boy girl child kid baby toddler lady guy player skier surfer rider pedestrian worker human
car: vehicle sedan taxi suv van jeep
truck: lorry pickup van
bus: coach
motorcycle: motorbike scooter bike
motorbike: motorcycle scooter bike
bicycle: bike
airplane: plane jet aircraft aeroplane
aeroplane: plane jet aircraft airplane
boat: ship canoe kayak sailboat ferry
dog: puppy
cat: kitten
cow: bull calf cattle ox
sheep: lamb ram
horse: pony foal
bird: duck goose gull pigeon parrot swan chicken
teddy bear: teddy toy plush
couch: sofa settee loveseat
sofa: couch settee loveseat
chair: seat stool armchair
potted plant: houseplant flowerpot
pottedplant: plant houseplant flowerpot
dining table: desk counter
diningtable: table desk counter
tv: television monitor screen
tvmonitor: tv television monitor screen
tv/monitor: tv television monitor screen
cell phone: phone smartphone mobile
laptop: computer notebook
refrigerator: fridge
cup: mug glass
wine glass: goblet glass
handbag: purse bag
backpack: rucksack bag
suitcase: luggage bag
sports ball: ball football basketball soccer
tennis racket: racquet
donut: doughnut
hair drier: dryer
sink: basin
toilet: loo
grass: lawn meadow field
road: street
pavement: sidewalk
house: building
animal: dog cat cow sheep horse bird elephant bear zebra giraffe
vehicle: car bus truck van motorcycle bicycle train boat airplane
fruit: apple orange banana
furniture: chair table couch sofa bed cabinet shelf
food: pizza sandwich cake hot-dog donut banana apple carrot broccoli
plant: tree flower bush
building: house tower church
"""


def agreement(names: Mapping[str, str | None], items: Mapping[str, str]) -> tuple[int, int]:
    """(marks whose item agrees with their annotated name, marks that have both); {label: name} and {label: text}."""
    named = {label: name for label, name in names.items() if name and label in items}
    return sum(names_match(name, items[label]) for label, name in named.items()), len(named)


def names_match(name: str, text: str) -> bool:
    """Whether a text names what the annotation calls `name`."""
    said = f" {normalize_name(_split(text))} "
    return any(f" {word} " in said for word in _accepted(name))


def are_synonyms(name: str, other: str) -> bool:
    """Whether a thing called `other` might be called `name` as well, by the table."""
    return normalize_name(other) in _accepted(name) or normalize_name(name) in _accepted(other)


@lru_cache(maxsize=4096)
def _accepted(name: str) -> frozenset[str]:
    whole = normalize_name(_split(spelled_out(name)))
    words = whole.split()
    return frozenset({whole, normalize_name(name), *words[-1:], *_synonyms().get(normalize_name(name), ())} - {""})


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, frozenset[str]]:
    rows = (line.partition(":") for line in _ROWS.strip().splitlines())
    return {normalize_name(name): frozenset(map(normalize_name, words.split())) for name, _, words in rows}


def _split(text: str) -> str:
    return re.sub(r"[-_/]", " ", text)

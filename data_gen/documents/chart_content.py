"""Made-up data of charts, and the Markdown table that a reader of the chart is to give back.

What the chart does not say in figures is no finer than its axes can be read, or the answer would teach guessing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from data_gen.documents.table import Table, four_digits, to_markdown
from data_gen.documents.vocabulary import CHARTED, ENTITIES, counts, shares

ChartKind = Literal["bar", "barh", "line", "pie", "scatter"]
SERIES = ("Alpha", "Beta", "Gamma", "Delta", "Plan", "Actual", "2019", "2024", "Group A", "Group B")
KINDS: tuple[ChartKind, ...] = ("bar", "barh", "line", "pie", "scatter")
ROOM: dict[ChartKind, int] = {"bar": 10, "barh": 16, "line": 8, "pie": 8, "scatter": 0}
"""How many values can be written beside what they belong to, so that none covers another."""
READABLE = 100  # steps of an axis that can be told apart


@dataclass(frozen=True)
class Chart:
    """What a chart shows: for every name of `names` (of a scatter plot, every x) a value in each series.

    Values are those that stand in the Markdown: at most four significant digits. `has_values`: the chart says them.
    """

    kind: ChartKind
    title: str
    subject: str
    measure: str
    names: tuple[str, ...]
    series: dict[str, tuple[float, ...]]
    has_values: bool = False

    def markdown(self) -> str:
        """A row for each name, a column for each series; a single one is called after what it measures."""
        columns = [self.measure] if len(self.series) == 1 else [*self.series]
        rows = [
            [name, *(four_digits(values[k]) for values in self.series.values())] for k, name in enumerate(self.names)
        ]
        return to_markdown(Table.of([[self.subject, *columns], *rows]))


def made_up_chart(kind: ChartKind, rng: Random) -> Chart:
    """A chart of this kind by chance."""
    measure, other = rng.sample([*CHARTED], 2)
    subject, names = (other, numbers_across(other, rng)) if kind == "scatter" else named_places(kind, rng)
    ending = rng.choice([f" by {subject.lower()}", f", {rng.randint(1990, 2030)}", ""])
    count = 1 if kind == "pie" else rng.choice([1, 1, 2, 3])
    has_values = kind == "pie" or (count * len(names) <= ROOM[kind] and rng.random() < 0.6)
    if kind == "line" and count > 1:
        has_values = False  # where lines cross, nobody sees which one a value belongs to
    value = values_of(measure, has_values, rng)
    least = 0.3 if kind == "pie" else 0.05  # so that a slice has room for its name
    series = {label: tuple(value(rng.uniform(least, 1)) for _ in names) for label in rng.sample(SERIES, count)}
    title = f"{measure} against {subject}" if kind == "scatter" else measure + ending
    return Chart(kind, title, subject, measure, names, series, has_values)


def values_of(measure: str, is_written: bool, rng: Random) -> Callable[[float], float]:
    """What turns a place on an axis, 0 to 1, into a value of a measure: as fine as four digits, or as axes are read."""
    size = 100.0 if CHARTED[measure] is shares else 10.0 ** rng.randint(2 if CHARTED[measure] is counts else 1, 5)
    steps = READABLE if not is_written else min(size, 10_000) if CHARTED[measure] is counts else 10_000
    return lambda place: float(four_digits(round(place * steps) * size / steps))


def numbers_across(measure: str, rng: Random) -> tuple[str, ...]:
    """Different places along the x axis, ascending."""
    value, places = values_of(measure, False, rng), rng.sample(range(READABLE + 1), rng.randint(4, 9))
    return tuple(four_digits(value(place / READABLE)) for place in sorted(places))


def named_places(kind: ChartKind, rng: Random) -> tuple[str, tuple[str, ...]]:
    """What the names are, and some of them: for a line mostly years; months and quarters in their order."""
    if kind == "line" and rng.random() < 0.6:
        first = rng.randint(1950, 2015)
        return "Year", tuple(str(year) for year in range(first, first + rng.randint(4, 10)))
    subject, known = rng.choice([*ENTITIES.items()])
    names = rng.sample(known, rng.randint(3, min(8, len(known))))
    return subject, tuple(sorted(names, key=known.index) if subject in ("Month", "Quarter") else names)

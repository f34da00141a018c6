"""Made-up data of charts, and the Markdown table that a reader of the chart is to give back."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from data_gen.documents.table import Table, four_digits, to_markdown
from data_gen.documents.vocabulary import ENTITIES, MEASURES

ChartKind = Literal["bar", "barh", "line", "pie", "scatter"]
SERIES = ("Alpha", "Beta", "Gamma", "Delta", "Plan", "Actual", "2019", "2024", "Group A", "Group B")
KINDS: tuple[ChartKind, ...] = ("bar", "barh", "line", "pie", "scatter")


@dataclass(frozen=True)
class Chart:
    """What a chart shows: for every name of `names` (of a scatter plot, every x) a value in each series.

    Values are those that stand in the Markdown: four significant digits.
    """

    kind: ChartKind
    title: str
    subject: str
    measure: str
    names: tuple[str, ...]
    series: dict[str, tuple[float, ...]]

    def markdown(self) -> str:
        """A row for each name, a column for each series; a single one is called after what it measures."""
        columns = [self.measure] if len(self.series) == 1 else [*self.series]
        rows = [
            [name, *(four_digits(values[k]) for values in self.series.values())] for k, name in enumerate(self.names)
        ]
        return to_markdown(Table.of([[self.subject, *columns], *rows]))


def made_up_chart(kind: ChartKind, rng: Random) -> Chart:
    """A chart of this kind by chance."""
    measure, other = rng.sample(MEASURES, 2)
    subject, names = (other, numbers_across(rng)) if kind == "scatter" else named_places(kind, rng)
    ending = rng.choice([f" by {subject.lower()}", f", {rng.randint(1990, 2030)}", ""])
    size = 10.0 ** rng.randint(0, 5)
    count = 1 if kind == "pie" else rng.choice([1, 1, 2, 3])
    series = {
        label: tuple(float(four_digits(rng.uniform(0.05, 1) * size)) for _ in names)
        for label in rng.sample(SERIES, count)
    }
    title = f"{measure} against {subject}" if kind == "scatter" else measure + ending
    return Chart(kind, title, subject, measure, names, series)


def numbers_across(rng: Random) -> tuple[str, ...]:
    """Different places along the x axis, ascending."""
    size = 10.0 ** rng.randint(0, 3)
    return tuple(map(four_digits, sorted({float(four_digits(rng.uniform(0, size))) for _ in range(rng.randint(4, 9))})))


def named_places(kind: ChartKind, rng: Random) -> tuple[str, tuple[str, ...]]:
    """What the names are, and some of them: for a line mostly years; months and quarters in their order."""
    if kind == "line" and rng.random() < 0.6:
        first = rng.randint(1950, 2015)
        return "Year", tuple(str(year) for year in range(first, first + rng.randint(4, 10)))
    subject, known = rng.choice([*ENTITIES.items()])
    names = rng.sample(known, rng.randint(3, min(8, len(known))))
    return subject, tuple(sorted(names, key=known.index) if subject in ("Month", "Quarter") else names)

"""Names and columns that made-up tables and charts are filled with; no value can be guessed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_CITIES = (
    "Aachen Bergen Cork Dakar Esbjerg Fukuoka Galway Hanoi Izmir Jaipur Kigali Lima Mendoza Nantes Oulu Porto Quito"
)
_MONTHS = "January February March April May June July August September October November December"
_PRODUCTS = (
    "Kettle, Desk lamp, Notebook, Bicycle, Raincoat, Headphones, Blender, Tent, Rucksack, Camera, Toaster, Umbrella"
)
_DEPARTMENTS = (
    "Sales, Research, Logistics, Finance, Legal, Support, Design, Training, Quality control, Public relations"
)
_COUNTRIES = "Norway, Chile, Kenya, Japan, Canada, Portugal, Vietnam, Iceland, Peru, Estonia, New Zealand, South Korea"
_SPECIES = "Grey heron, Barn owl, Kingfisher, Red kite, Coot, Dunlin, Nuthatch, Skylark, Swift, Treecreeper, Wren"
_MATERIALS = "Copper Glass Oak Granite Nylon Steel Cork Wool Zinc Rubber Slate"
ENTITIES: dict[str, tuple[str, ...]] = {
    "City": tuple(_CITIES.split()),
    "Month": tuple(_MONTHS.split()),
    "Product": tuple(_PRODUCTS.split(", ")),
    "Department": tuple(_DEPARTMENTS.split(", ")),
    "Country": tuple(_COUNTRIES.split(", ")),
    "Species": tuple(_SPECIES.split(", ")),
    "Material": tuple(_MATERIALS.split()),
    "Quarter": ("Q1", "Q2", "Q3", "Q4"),
}
GROUPS = ("First half", "Second half", "Domestic", "Abroad", "Plan", "Actual", "North", "South", "Online", "In store")

Writer = Callable[[], str]
"""Writes the next value of a column."""


def counts(rng: Random) -> Writer:
    """Whole numbers, some with commas between thousands."""
    size, comma = rng.choice([10, 100, 1000, 50_000, 2_000_000]), rng.choice(["", ","])
    return lambda: f"{rng.randint(0, size):{comma}}"


def amounts(rng: Random) -> Writer:
    """Money, some with the sign of a currency."""
    size, sign, digits = rng.choice([100, 1000, 50_000]), rng.choice(["", "$", "€", "£"]), rng.choice([0, 2])
    return lambda: f"{sign}{rng.uniform(0, size):,.{digits}f}"


def quantities(rng: Random) -> Writer:
    """What a unit measures, with up to three decimals."""
    size, digits = rng.choice([10, 100, 1000]), rng.randint(0, 3)
    return lambda: f"{rng.uniform(0, size):.{digits}f}"


def shares(rng: Random) -> Writer:
    """Up to a hundred, in some columns with a sign for it."""
    sign, digits = rng.choice(["", "%"]), rng.randint(0, 2)
    return lambda: f"{rng.uniform(0, 100):.{digits}f}{sign}"


def changes(rng: Random) -> Writer:
    """Below or above zero, in some columns with a plus."""
    plus, sign = rng.choice(["", "+"]), rng.choice(["", "%"])
    return lambda: f"{rng.uniform(-40, 60):{plus}.1f}{sign}"


def years(rng: Random) -> Writer:
    """Years."""
    return lambda: str(rng.randint(1950, 2030))


def verdicts(rng: Random) -> Writer:
    """Yes, no, or not known."""
    words = rng.choice([("yes", "no", "n/a"), ("Yes", "No"), ("pass", "fail"), ("high", "medium", "low")])
    return lambda: rng.choice(words)


CHARTED: dict[str, Callable[[Random], Writer]] = {
    **dict.fromkeys(("Orders", "Members", "Visitors", "Returns", "Output"), counts),
    **dict.fromkeys(("Revenue", "Cost", "Price"), amounts),
    **dict.fromkeys(("Weight (kg)", "Distance (km)", "Rainfall (mm)", "Energy (kWh)", "Speed (m/s)"), quantities),
    **dict.fromkeys(("Share (%)", "Score"), shares),
}
"""What a chart may show, and how a table writes it."""
MEASURES = {
    **CHARTED,
    "Growth (%)": changes,
    "Founded": years,
    "Renewed": years,
    "Approved": verdicts,
    "Risk": verdicts,
}
"""Headings of columns, and how the values below are written."""

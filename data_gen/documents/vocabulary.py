"""Names and columns that made-up tables and charts are filled with; they mean nothing, so nothing can be guessed."""

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
_MEASURES = (
    "Revenue, Cost, Orders, Members, Output, Weight (kg), Distance (km), Share (%), Score, Rainfall (mm), Visitors"
)
MEASURES = (*_MEASURES.split(", "), "Energy (kWh)", "Returns", "Price", "Growth (%)", "Speed (m/s)")
GROUPS = ("First half", "Second half", "Domestic", "Abroad", "Plan", "Actual", "North", "South", "Online", "In store")


def measured(rng: Random) -> Callable[[], str]:
    """A way to write the values of one column: whole numbers, decimals, amounts, shares, years or yes and no."""
    size, digits = rng.choice([10, 100, 1000, 50_000]), rng.randint(1, 3)
    return rng.choice(
        [
            lambda: str(rng.randint(0, size)),
            lambda: f"{rng.randint(0, 100 * size):,}",
            lambda: f"{rng.uniform(-size, size):.{digits}f}",
            lambda: f"${rng.uniform(0, size):,.2f}",
            lambda: f"{rng.uniform(0, 100):.1f}%",
            lambda: str(rng.randint(1950, 2030)),
            lambda: rng.choice(["yes", "no", "n/a"]),
        ]
    )

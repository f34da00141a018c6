"""demo_out/index.html: one static page from the facts the demo gathered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def write_page(file: Path, facts: dict[str, Any]) -> None:
    """Render `demo_page.html` beside this file; images are linked relative to `file`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    page = environment.get_template("demo_page.html").render(**facts, curve=loss_curve(facts["training"]["losses"]))
    file.write_text(page, encoding="utf-8")


def loss_curve(losses: list[list[float]], width: int = 640, height: int = 200) -> dict[str, Any]:
    """Training loss as an SVG polyline: its points, and what the axes end at."""
    steps, values = [step for step, _ in losses], [value for _, value in losses]
    top = max(values)
    points = [f"{width * step / steps[-1]:.1f},{height * (1 - value / top):.1f}" for step, value in losses]
    return {"points": " ".join(points), "width": width, "height": height, "top": round(top, 2), "steps": steps[-1]}

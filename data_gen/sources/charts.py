"""Charts whose data is known because they are drawn from it: bars, lines, pies and points by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from data_gen.documents.chart_content import KINDS, ChartKind, made_up_chart
from data_gen.documents.chart_drawing import ChartStyle, draw_chart
from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef, Page, PageSource
from llava_som.config_file import option


@SOURCES.register("charts")
@dataclass(frozen=True, kw_only=True)
class ChartSource(PageSource):
    """Drawn charts with known data; for recipe=document."""

    transient_fields: ClassVar[frozenset[str]] = frozenset({"count"})  # chart 5 is the same whatever comes after it
    image_suffix: ClassVar[str] = ".png"

    count: int = option(1000, help="how many charts")
    charts: tuple[ChartKind, ...] = option(KINDS, help="kinds to draw from; barh are bars that lie")
    seed: int = option(0, help="the run's seed; charts of two seeds share nothing")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count}: has to be at least 1.")
        if not self.charts:
            raise ValueError(f"charts=[]: name at least one of {', '.join(KINDS)}.")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each chart."""
        return [ImageRef(f"chart-{number:06d}") for number in range(self.count)]

    def page(self, ref: ImageRef, index: int) -> Page:
        """The drawn chart; an ImportError without matplotlib."""
        rng = Random(f"{self.seed}:{ref.id}")
        chart = made_up_chart(rng.choice(self.charts), rng)
        image, blocks = draw_chart(chart, ChartStyle.drawn(rng))
        return Page(image, "chart", blocks, markdown=chart.markdown())

"""Charts as pictures by matplotlib in many styles, with the place of every word drawn, upright or on its side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from PIL import Image

from data_gen.documents.chart_content import Chart
from data_gen.documents.table import four_digits
from llava_som.data.page_record import Block, Line, Word, inside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

PALETTES = (
    ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"),
    ("#264653", "#2a9d8f", "#e9c46a", "#f4a261", "#e76f51", "#8ab17d", "#b5838d", "#6d6875"),
    ("#003f5c", "#7a5195", "#ef5675", "#ffa600", "#58508d", "#bc5090", "#ff6361", "#2f4b7c"),
    ("#4c4c4c", "#7d7d7d", "#a6a6a6", "#cfcfcf", "#333333", "#909090", "#b8b8b8", "#666666"),
)
FONTS = ("DejaVu Sans", "DejaVu Serif", "STIXGeneral")
LEGENDS = ("outside right upper", "outside right center", "outside lower center")  # where it covers no data


@dataclass(frozen=True)
class ChartStyle:
    """How a chart looks: `size` and `margin` in inches of 100 pixels, fonts in points."""

    size: tuple[float, float]
    margin: float
    font: str
    font_pt: float
    palette: tuple[str, ...]
    paper: str
    has_grid: bool
    has_frame: bool
    legend: str
    marker: str

    @classmethod
    def drawn(cls, rng: Random) -> ChartStyle:
        """A style by chance."""
        palette = rng.choice(PALETTES)
        return cls(
            size=(rng.uniform(5, 9), rng.uniform(4, 7)),
            margin=rng.uniform(0.06, 0.3),
            font=rng.choice(FONTS),
            font_pt=rng.uniform(9, 13),
            palette=tuple(rng.sample(palette, len(palette))),
            paper=rng.choice(["white", "white", "#f7f7f7", "#fff9ee"]),
            has_grid=rng.random() < 0.5,
            has_frame=rng.random() < 0.5,
            legend=rng.choice(LEGENDS),
            marker=rng.choice(["o", "s", "^", "D"]),
        )


def draw_chart(chart: Chart, style: ChartStyle) -> tuple[Image.Image, tuple[Block, ...]]:
    """The picture of a chart, and its text: a block for each label; an ImportError without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise ImportError("source=charts needs matplotlib: pip install 'llava_som[gen]'.") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    look = {"font.family": style.font, "font.size": style.font_pt, "axes.unicode_minus": False}
    with mpl.rc_context({**mpl.rcParamsDefault, **look}):
        layout = ConstrainedLayoutEngine(w_pad=style.margin, h_pad=style.margin)
        figure = Figure(figsize=style.size, dpi=100, facecolor=style.paper, layout=layout)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot(facecolor=style.paper)
        plot(axes, chart, style)
        canvas.draw()
        return picture(canvas), tuple(blocks_of(figure, canvas))


def plot(axes: Axes, chart: Chart, style: ChartStyle) -> None:
    """Draw the data, names and titles."""
    axes.set_title(chart.title, pad=3 * style.font_pt if chart.kind == "pie" else None)  # names stand above a pie
    if chart.kind == "pie":
        ((_, values),) = chart.series.items()
        written = [f"{name}\n{four_digits(value)}" for name, value in zip(chart.names, values, strict=True)]
        axes.pie(values, labels=written, colors=style.palette, startangle=90, labeldistance=1.2)
        return
    {"bar": bars, "barh": bars, "line": lines, "scatter": points}[chart.kind](axes, chart, style)
    across, up = (chart.measure, chart.subject) if chart.kind == "barh" else (chart.subject, chart.measure)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.ticklabel_format(style="plain", useOffset=False, axis="x" if chart.kind == "barh" else "y")
    if style.has_grid:
        axes.grid(alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(style.has_frame)
    if len(chart.series) > 1:
        assert axes.figure is not None  # it was added to one
        axes.figure.legend(loc=style.legend, ncols=len(chart.series) if "lower" in style.legend else 1)


def bars(axes: Axes, chart: Chart, style: ChartStyle) -> None:
    """Bars side by side for the series, upright or lying."""
    lying, count = chart.kind == "barh", len(chart.series)
    draw: Any = axes.barh if lying else axes.bar
    places = [float(k) for k in range(len(chart.names))]
    for k, (label, values) in enumerate(chart.series.items()):
        moved = [place + (k - (count - 1) / 2) * 0.8 / count for place in places]
        made = draw(moved, values, 0.8 / count, label=label, color=style.palette[k])
        if chart.has_values:
            axes.bar_label(made, [four_digits(value) for value in values], padding=2, fontsize=0.75 * style.font_pt)
    if lying:
        axes.set_yticks(places, chart.names)
        axes.invert_yaxis()  # the first name on top, as in the table
    else:
        axes.set_xticks(places, chart.names, rotation=turn_of(chart, style))
    axes.margins(**{"x" if lying else "y": 0.12})  # room for values inside the frame


def lines(axes: Axes, chart: Chart, style: ChartStyle) -> None:
    """A line for each series over evenly spaced names."""
    places = range(len(chart.names))
    for k, (label, values) in enumerate(chart.series.items()):
        axes.plot(places, values, label=label, color=style.palette[k], marker=style.marker)
        for place, value in zip(places, values, strict=True) if chart.has_values else ():
            written = axes.annotate(four_digits(value), (place, value), (0, 6), textcoords="offset points", ha="center")
            written.set_bbox({"facecolor": style.paper, "edgecolor": "none", "pad": 0.5})  # no line runs through it
    axes.set_xticks(places, chart.names, rotation=turn_of(chart, style))
    axes.margins(0.08, 0.15)


def turn_of(chart: Chart, style: ChartStyle) -> int:
    """Degrees that names below the x axis are turned by: none where the longest has room for itself."""
    width = 0.6 * style.font_pt * (1 + max(map(len, chart.names)))
    return 90 if width * len(chart.names) > 0.75 * 72 * style.size[0] else 0


def points(axes: Axes, chart: Chart, style: ChartStyle) -> None:
    """A point for each x of each series."""
    places = [float(name) for name in chart.names]
    for k, (label, values) in enumerate(chart.series.items()):
        axes.scatter(places, values, label=label, color=style.palette[k], marker=style.marker)
    axes.ticklabel_format(style="plain", useOffset=False)


def picture(canvas: FigureCanvasAgg) -> Image.Image:
    """What was drawn, RGB."""
    width, height = canvas.get_width_height()
    return Image.frombuffer("RGBA", (width, height), bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1).convert("RGB")


def blocks_of(figure: Figure, canvas: FigureCanvasAgg) -> Iterator[Block]:
    """Every label as a block of its lines."""
    renderer, size = canvas.get_renderer(), canvas.get_width_height()
    for label in labels(figure):
        if label.get_text().strip():
            place = lines_on_side if label.get_rotation() == 90 else lines_of
            yield Block(lines=tuple(place(label, renderer, size)))


def labels(figure: Figure) -> Iterator[Text]:
    """The texts of a chart that can be seen, from its title to its legend."""
    (axes,) = figure.axes
    yield axes.title
    for axis in (axes.yaxis, axes.xaxis) if axes.axison else ():
        first, last = sorted(axis.get_view_interval())
        ticks = axis.get_major_ticks()
        slack = 1e-6 * (last - first)
        yield from (tick.label1 for tick in ticks if first - slack <= tick.get_loc() <= last + slack)
        yield axis.label
    yield from axes.texts
    for legend in figure.legends:
        yield from legend.get_texts()


def lines_of(label: Text, renderer: RendererAgg, size: tuple[int, int]) -> Iterator[Line]:
    """The lines of an upright label in a picture of this (width, height)."""
    box = label.get_window_extent(renderer)
    texts = label.get_text().split("\n")
    step = box.height / len(texts)
    shift = {"left": 0.0, "center": 0.5, "right": 1.0}[label.get_horizontalalignment()]
    for number, text in enumerate(texts):
        top = size[1] - box.y1 + number * step
        start = box.x0 + shift * (box.width - wide(text, label, renderer))
        places = words_along(text, start, label, renderer)
        yield Line(words=tuple(placed(word, (left, top, right, top + step), size) for word, left, right in places))


def lines_on_side(label: Text, renderer: RendererAgg, size: tuple[int, int]) -> Iterator[Line]:
    """The single line of a label that is read from below, in a picture of this (width, height)."""
    box = label.get_window_extent(renderer)
    places, height = words_along(label.get_text(), box.y0, label, renderer), size[1]
    yield Line(words=tuple(placed(word, (box.x0, height - end, box.x1, height - at), size) for word, at, end in places))


def words_along(text: str, start: float, label: Text, renderer: RendererAgg) -> Iterator[tuple[str, float, float]]:
    """The words of a line in a label's font, and where each begins and ends on a line that begins at `start`."""
    at = 0
    for word in text.split():
        at = text.index(word, at)
        end = at + len(word)
        yield word, start + wide(text[:at], label, renderer), start + wide(text[:end], label, renderer)
        at = end


def wide(text: str, label: Text, renderer: RendererAgg) -> float:
    """Pixels that a text takes in a label's font."""
    return renderer.get_text_width_height_descent(text, label.get_fontproperties(), False)[0]


def placed(word: str, box: tuple[float, float, float, float], size: tuple[int, int]) -> Word:
    """A word and the whole pixels that it takes, all in the picture."""
    left, top, right, bottom = box
    return Word(text=word, box=inside((int(left), int(top), int(right) + 1, int(bottom) + 1), size))

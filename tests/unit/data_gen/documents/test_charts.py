import itertools
import math
from random import Random

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_gen.documents.chart_content import KINDS, Chart, made_up_chart
from data_gen.documents.chart_drawing import ChartStyle, draw_chart, plot
from data_gen.documents.table import four_digits


def test_the_table_of_a_chart_has_a_row_for_each_name_and_a_column_for_each_series():
    chart = Chart("bar", "Title", "City", "Cost", ("Cork", "Lima"), {"Plan": (1.5, 1234.0), "Actual": (2, 0.25)})
    assert chart.markdown().split("\n") == [
        "| City | Plan | Actual |",
        "| --- | --- | --- |",
        "| Cork | 1.5 | 2 |",
        "| Lima | 1234 | 0.25 |",
    ]
    single = Chart("pie", "Title", "City", "Cost", ("Cork",), {"Plan": (3,)})
    assert single.markdown().startswith("| City | Cost |\n")


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_table(kind):
    for seed in range(15):
        chart = made_up_chart(kind, Random(seed))
        body = [line[2:-2].split(" | ") for line in chart.markdown().split("\n")[2:]]
        assert tuple(row[0] for row in body) == chart.names and len(set(chart.names)) == len(chart.names)
        for k, values in enumerate(chart.series.values()):
            assert [float(row[k + 1]) for row in body] == list(values)


@pytest.mark.parametrize("kind", KINDS)
def test_words_lie_on_ink_and_name_what_the_table_names(kind):
    rng = Random(7)
    chart, style = made_up_chart(kind, rng), ChartStyle.drawn(rng)
    image, blocks = draw_chart(chart, style)
    grey = np.asarray(image.convert("L"), int)
    paper = int(grey[1, 1])
    words = [word for block in blocks for line in block.lines for word in line.words]
    for word in words:
        left, top, right, bottom = word.box
        assert 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
        assert np.abs(grey[top:bottom, left:right] - paper).max() > 60, word
    written = " ".join(word.text for word in words)
    assert chart.title in written and (kind == "pie" or written.count(chart.measure) == 2)  # once more at its axis
    assert kind == "scatter" or all(name in written for name in chart.names)


def test_words_on_their_side_have_tall_boxes_from_the_bottom_up():
    chart = Chart("bar", "Walks", "City", "Distance (km)", ("Cork", "Lima"), {"Plan": (1.5, 2)})
    image, blocks = draw_chart(chart, ChartStyle.drawn(Random(0)))
    (label,) = [line for block in blocks for line in block.lines if line.text == "Distance (km)"]
    first, second = (word.box for word in label.words)
    assert first[3] - first[1] > 2 * (first[2] - first[0]) and second[3] <= first[1] + 2 and first[2] < image.width / 4
    grey = np.asarray(image.convert("L"), int)
    for left, top, right, bottom in (first, second):
        assert np.ptp(grey[top:bottom, left:right]) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_covers_another(kind):
    for seed in range(8):
        rng = Random(seed)
        _, blocks = draw_chart(made_up_chart(kind, rng), ChartStyle.drawn(rng))
        boxes = [word.box for block in blocks for line in block.lines for word in line.words]
        for a, b in itertools.combinations(boxes, 2):
            assert min(a[2], b[2]) - max(a[0], b[0]) <= 2 or min(a[3], b[3]) - max(a[1], b[1]) <= 4


@pytest.mark.parametrize("kind", ["bar", "barh", "line", "scatter"])
def test_a_legend_covers_no_data(kind):
    for seed in range(6):
        chart = made_up_chart(kind, Random(seed))
        figure = Figure(layout="constrained")
        plot(figure.add_subplot(), chart, ChartStyle.drawn(Random(seed)))
        FigureCanvasAgg(figure).draw()
        assert len(figure.legends) == (len(chart.series) > 1)
        assert not any(legend.get_window_extent().overlaps(figure.axes[0].bbox) for legend in figure.legends)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_written_in_the_chart_or_can_be_read_off_its_axis(kind):
    seen = set()
    for seed in range(30):
        chart = made_up_chart(kind, Random(seed))
        seen.add(chart.has_values)
        values = [value for values in chart.series.values() for value in values]
        if chart.has_values:
            _, blocks = draw_chart(chart, ChartStyle.drawn(Random(seed)))
            written = [word.text for block in blocks for line in block.lines for word in line.words]
            assert all(four_digits(value) in written for value in values)
        else:
            step = 10.0 ** math.ceil(math.log10(max(values))) / 100
            assert all(abs(value / step - round(value / step)) < 1e-6 for value in values)
    assert seen == {"pie": {True}, "scatter": {False}}.get(kind, {True, False})


def test_the_same_chart_is_drawn_alike_and_looks_differ():
    chart = made_up_chart("line", Random(1))
    first, again = (draw_chart(chart, ChartStyle.drawn(Random(2)))[0] for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert len({draw_chart(chart, ChartStyle.drawn(Random(seed)))[0].size for seed in range(5)}) == 5

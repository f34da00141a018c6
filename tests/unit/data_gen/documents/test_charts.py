from random import Random

import numpy as np
import pytest

from data_gen.documents.chart_content import KINDS, Chart, made_up_chart
from data_gen.documents.chart_drawing import ChartStyle, draw_chart


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
        assert 0 <= left < right <= image.width + 1 and 0 <= top < bottom <= image.height + 1
        assert np.abs(grey[top:bottom, left:right] - paper).max() > 60, word
    written = " ".join(word.text for word in words)
    assert chart.title in written and (kind == "scatter" or len(chart.series) > 1 or chart.measure in written)
    if kind in ("pie", "barh"):
        assert all(name in written for name in chart.names)


def test_the_same_chart_is_drawn_alike_and_looks_differ():
    chart = made_up_chart("line", Random(1))
    first, again = (draw_chart(chart, ChartStyle.drawn(Random(2)))[0] for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert len({draw_chart(chart, ChartStyle.drawn(Random(seed)))[0].size for seed in range(5)}) == 5

"""Tables from HTML, as Markdown and as pictures."""

import re
from random import Random

import numpy as np
import pytest

from data_gen.documents.html_tables import MOST_COLUMNS, MOST_ROWS, read_table, read_tables
from data_gen.documents.table import Cell, Table, four_digits, to_markdown
from data_gen.documents.table_content import made_up_table
from data_gen.documents.table_drawing import Style, draw_table
from llava_som.images import ImageError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12344.6, "12340"),
        (12346, "12350"),
        (0.000123456, "0.0001235"),
        (3.0, "3"),
        (-0.5, "-0.5"),
        (0, "0"),
        (1e9, "1000000000"),
    ],
)
def test_numbers_keep_four_digits_and_are_written_out(value, text):
    assert four_digits(value) == text


def table_of(html, tmp_path, number=0):
    file = tmp_path / "t.html"
    file.write_text(html)
    return read_table(file, number)


MERGED = """<p>Text</p><table><thead><tr><th rowspan=2>Name<th colspan=2>Size | weight</tr><tr><th>cm<th>kg</tr></thead>
<tr><td rowspan="2">A &amp; <b>B</b><td>1<td>2<tr><td>3<td>4</td></tr></table>"""


def test_merged_cells_stand_once_before_empty_places(tmp_path):
    assert to_markdown(table_of(MERGED, tmp_path)).split("\n") == [
        r"| <ROWSPAN=2>Name | <COLSPAN=2>Size \| weight |  |",
        "| --- | --- | --- |",
        "|  | cm | kg |",
        "| <ROWSPAN=2>A & B | 1 | 2 |",
        "|  | 3 | 4 |",
    ]


def grid_of(markdown):
    """Which cell covers each place of a Markdown table, read back from its rows and spans alone."""
    rows = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in markdown.split("\n")]
    del rows[1]
    covered = {}
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            spans = dict(re.findall(r"<(COLSPAN|ROWSPAN)=(\d+)>", text))
            if (row, column) in covered:
                assert text == ""
                continue
            reach = [(r, c) for r in range(int(spans.get("ROWSPAN", 1))) for c in range(int(spans.get("COLSPAN", 1)))]
            covered |= {(row + r, column + c): re.sub(r"<\w+=\d+>", "", text) for r, c in reach}
    return covered


@pytest.mark.parametrize("seed", range(20))
def test_made_up_tables_are_covered_once_and_come_back_from_markdown(seed):
    table = made_up_table(Random(seed), merged_share=0.8)
    places = [
        (cell.row + r, cell.column + c, cell.text)
        for cell in table.cells
        for r in range(cell.rows)
        for c in range(cell.columns)
    ]
    assert len(places) == table.rows * table.columns == len({place[:2] for place in places})
    assert grid_of(to_markdown(table)) == {(row, column): text for row, column, text in places}


def test_half_of_the_tables_have_merged_cells_where_that_is_asked():
    merged = [any(c.rows * c.columns > 1 for c in made_up_table(Random(s), 0.5).cells) for s in range(200)]
    assert 0.4 < np.mean(merged) < 0.9
    assert not any(c.rows * c.columns > 1 for s in range(30) for c in made_up_table(Random(s), 0).cells)


def test_html_is_read_as_browsers_do(tmp_path):
    ragged = table_of("<table><tr><td>1<td>2<td>3<tr><td>4</table>", tmp_path)
    assert (ragged.rows, ragged.columns) == (2, 3) and ragged.cells[-1] == Cell("", 1, 2)
    too_far = table_of("<table><tr><td rowspan=9>a<td>b<tr><td colspan=zero>c</table>", tmp_path)
    assert too_far.cells[0].rows == 2 and too_far.cells[2] == Cell("c", 1, 1)
    rest = table_of("<table><tr><td rowspan=0>a<td>b<tr><td>c<tr><td>d</table>", tmp_path)
    assert rest.cells[0].rows == 3
    body = "<thead><tr><th rowspan=3>h<th>i</thead><tr><td rowspan=0>a<td>b<tr><td>c<tfoot><tr><td>d<td>e</tfoot>"
    groups = table_of(f"<table>{body}</table>", tmp_path)
    assert [(cell.text, cell.row, cell.rows) for cell in groups.cells if cell.column == 0] == [
        ("h", 0, 1),
        ("a", 1, 2),
        ("d", 3, 1),
    ]
    unseen = table_of("<table><tr><td>a<script>alert('x')</script><br>b</table>", tmp_path)
    assert unseen.cells[0].text == "a b"
    file = tmp_path / "two.html"
    file.write_text("<table><tr><td>1</table><table><tr><td>2</table>")
    assert len(read_tables(file).tables) == 2 and read_table(file, 1).cells[0].text == "2"


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ("<p>none</p>", "has no <table>"),
        ("", "has no <table>"),
        ("<table></table>", "has no text"),
        ("<table><tr><td> <td>&nbsp;</table>", "has no text"),
        ("<table><tr><td><table><tr><td>in</table></table>", "table inside a cell"),
        ("<table><tr><td>a<td rowspan=2>b<tr><td colspan=2>over</table>", "'over' in row 2 reaches into another"),
        (f"<table><tr><td colspan={MOST_COLUMNS + 1}>x</table>", "columns"),
        ("<table>" + "<tr><td>x" * (MOST_ROWS + 1) + "</table>", f"{MOST_ROWS + 1} rows"),
    ],
)
def test_a_broken_table_says_what_is_wrong(tmp_path, html, message):
    with pytest.raises(ImageError, match=message):
        table_of(html, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_words_of_a_drawn_table_cover_all_of_its_ink(seed):
    """Without rules and fills, what is not paper is text, and every dark pixel lies in the box of a word."""
    rng = Random(seed)
    table = made_up_table(rng, 0.0)
    style = Style.drawn(table, rng)
    plain = type(style)(**{**vars(style), "rules": "none", "header": style.paper, "stripe": style.paper})
    image, blocks = draw_table(table, plain)
    ink = (np.abs(np.asarray(image, int) - plain.paper) > 60).any(axis=2)
    inside, slack = np.zeros_like(ink), 2 + style.font_px // 8  # a J reaches out to the left of where it begins
    words = [word for block in blocks for line in block.lines for word in line.words]
    for left, top, right, bottom in (word.box for word in words):
        assert 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
        assert ink[top:bottom, left:right].any()
        inside[top:bottom, max(0, left - slack) : right + slack] = True
    assert not (ink & ~inside).any()
    assert [word.text for word in words] == [word for cell in table.cells for word in cell.text.split()]


def test_merged_cells_are_always_ruled_and_a_rule_cuts_through_none():
    table = Table(2, 2, (Cell("wide", 0, 0, columns=2), Cell("a", 1, 0), Cell("b", 1, 1)))
    assert {Style.drawn(table, Random(seed)).rules for seed in range(40)} == {"all"}
    assert len({Style.drawn(Table.of([["a"], ["b"]]), Random(seed)).rules for seed in range(60)}) == 4


def test_what_a_font_cannot_draw_or_nobody_can_hold_is_refused():
    style = Style.drawn(Table.of([["a"]]), Random(0))
    with pytest.raises(ValueError, match="cannot draw '表'"):
        draw_table(Table.of([["表"]]), style)
    with pytest.raises(ValueError, match="pixels large"):
        draw_table(Table.of([["w" * 900]]), style)

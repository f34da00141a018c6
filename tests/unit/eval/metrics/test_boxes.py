import pytest

from eval.metrics.boxes import iou, parse_box


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("<bbox>0,0,999,999</bbox>", (0, 0, 1, 1)),
        (" <bbox> 333, 0,666 ,999</bbox>\n", (1 / 3, 0, 2 / 3, 1)),
        ("0,0,999,999", (0, 0, 1, 1)),
        ("<bbox>-5,0,1200,999</bbox>", (0, 0, 1, 1)),
        ("<bbox>1,2,3</bbox>", None),
        ("<bbox>1,2,3,4,5</bbox>", None),
        ("<bbox>0.1,0.2,0.3,0.4</bbox>", None),
        ("<bbox>a,b,c,d</bbox>", None),
        ("There is no such text.", None),
        ("", None),
    ],
)
def test_boxes_are_read_or_refused(text, box):
    assert parse_box(text) == pytest.approx(box) if box else parse_box(text) is None


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
        ((0, 0, 0.5, 1), (0, 0, 1, 1), 0.5),
        ((0, 0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.75), 0.0625 / 0.4375),
        ((0, 0, 0.2, 1), (0.5, 0, 1, 1), 0.0),
        ((0, 0, 0.1, 0.1), (0.8, 0.8, 1, 1), 0.0),  # apart on both axes: the product of the gaps is no overlap
        ((0.5, 0, 0.1, 1), (0, 0, 1, 1), 0.0),  # ends before it begins
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_overlap_of_known_boxes(first, second, share):
    assert iou(first, second) == pytest.approx(share) == iou(second, first)

import pytest

from eval.metrics.boxes import iou


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

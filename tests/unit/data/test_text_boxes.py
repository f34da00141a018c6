import random

import pytest

from llava_som.data.text_boxes import decode_boxes, encode_box, sole_box


@pytest.mark.parametrize(
    ("box", "size", "text"),
    [
        ((0, 0, 1240, 1754), (1240, 1754), "<bbox>0,0,999,999</bbox>"),
        ((620, 877, 1240, 1754), (1240, 1754), "<bbox>500,500,999,999</bbox>"),  # 499.5 to the even neighbour
        ((1, 1, 2, 2), (1000, 500), "<bbox>1,2,2,4</bbox>"),
        ((-5, -5, 300, 300), (200, 100), "<bbox>0,0,999,999</bbox>"),
    ],
)
def test_a_box_is_written_in_thousandths_of_the_sides(box, size, text):
    assert encode_box(box, size) == text


def test_a_box_comes_back_within_half_a_unit():
    rng = random.Random(0)
    for _ in range(200):
        size = rng.randint(1, 5000), rng.randint(1, 5000)
        xs, ys = sorted(rng.uniform(0, size[0]) for _ in "12"), sorted(rng.uniform(0, size[1]) for _ in "12")
        box = xs[0], ys[0], xs[1], ys[1]
        (back,) = decode_boxes(f"It is at {encode_box(box, size)}.", size)
        assert all(abs(a - b) <= 0.5 / 999 * side + 1e-9 for a, b, side in zip(box, back, size * 2, strict=True))


def test_only_four_whole_numbers_are_a_box_and_those_beyond_it_mean_the_edge():
    text = "<bbox>1,2,3</bbox> <bbox>0.1,0,1,1</bbox> <bbox>x,0,1,1</bbox> <bbox> -1, 0,1200,999 </bbox>"
    assert decode_boxes(text, (50, 20)) == [(0, 0, 50, 20)]


@pytest.mark.parametrize(("box", "size"), [((5, 0, 1, 9), (10, 10)), ((0, 9, 5, 1), (10, 10)), ((0, 0, 1, 1), (0, 10))])
def test_sides_in_the_wrong_order_and_empty_images_are_refused(box, size):
    with pytest.raises(ValueError, match=r"give (left, top|width)"):
        encode_box(box, size)


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
        ("<bbox>1_0,0,9,9</bbox>", None),  # which int() would read as 10
        ("<bbox>٣,0,9,9</bbox>", None),
        ("It is at <bbox>0,0,9,9</bbox>", None),
        ("<bbox>0,0,9,9</bbox><bbox>0,0,9,9</bbox>", None),
        ("There is no such text.", None),
        ("", None),
    ],
)
def test_an_answer_is_one_box_or_none(text, box):
    assert sole_box(text) == pytest.approx(box) if box else sole_box(text) is None

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_gen.recipes.trace import (
    LOCATE_QUESTIONS,
    SCENES,
    TRACE_QUESTIONS,
    TraceRecipe,
    cell_of,
    moving_paths,
    parse_trace,
    path_of,
    path_problems,
    place_problems,
    places_text,
    trace_text,
)
from data_gen.requests import Answer, EncodedImage, Rejected, Tagged
from llava_som.marks import Region, get_preset, mark_image

STILL = ((301.0, 201.0), (302.0, 201.0), (301.0, 202.0), (301.0, 201.0))


def tagged(*traces, preset="paper"):
    regions = [
        Region.from_box((20 + 90 * k, 20, 60, 60), (640, 480), source="video", trace=trace)
        for k, trace in enumerate(traces)
    ]
    record = mark_image(Image.new("RGB", (640, 480), "gray"), regions, preset).record
    return Tagged("clip/000000", EncodedImage(b"", "image/png"), record)


def line(start, step, frames=16):
    return tuple(map(tuple, (np.array(start) + np.arange(frames)[:, None] * step).tolist()))


def converse(recipe, item, answer=None, seed=0):
    conversation = recipe.conversation(item, Random(seed))
    request = next(conversation)
    with pytest.raises(StopIteration) as finished:
        conversation.send(Answer(request.truth if answer is None else answer))
    return request, finished.value.value


def test_an_answer_says_where_moving_marks_are_and_will_be():
    item = tagged(line((11, 471), (5, -5), frames=6), STILL, line((321, 241), (10, 0), frames=4))
    request, (question, answer) = converse(TraceRecipe(), item)
    assert answer.text == (
        "Mark 1 at [4,251], Mark 3 at [128,128] will move. Their positions from there on:\n\n"
        '"Mark 1": "[[6,248],[8,245],[10,243],[12,240],[14,237]]"\n\n'
        '"Mark 3": "[[132,128],[136,128],[140,128]]"'
    )
    assert question.text == f"<image>\n{request.messages[0].text}"
    assert "1, 2, 3" in question.text and "5 steps" in question.text and "{" not in question.text
    assert parse_trace(answer.text) == moving_paths(item.record, 1.0)


def test_paths_survive_writing_and_reading():
    rng = np.random.default_rng(0)
    for _ in range(50):
        paths = {
            int(number): [tuple(map(int, cell)) for cell in rng.integers(0, 256, (rng.integers(2, 16), 2))]
            for number in sorted(rng.choice(99, rng.integers(1, 6), replace=False))
        }
        assert parse_trace(trace_text(paths)) == paths
        assert path_problems(trace_text(paths), list(paths)) == []


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("Mark 1 at [3,4]. Mark 2 at [5, 6].", {1: [(3, 4)], 2: [(5, 6)]}),
        (
            'Mark 3 at [1,2] should be moved, and its future positions are:\n\n"Mark 3": "[[3,4],[5,6]]"',
            {3: [(1, 2), (3, 4), (5, 6)]},
        ),
        ("mark 3 at [ 1, 2 ]\nMark 3: [[3, 4]]", {3: [(1, 2), (3, 4)]}),
        ('Mark 3 at [1,2]\n"Mark 3": "[[3,4],[5,', {3: [(1, 2)]}),
        ("Nothing moves here.", {}),
        (f"Mark 1 at [1,{'9' * 5000}]", {1: [(1, 999_999_999)]}),  # Python reads no number of so many digits
    ],
)
def test_other_wordings_and_cut_answers_are_read(text, cells):
    assert parse_trace(text) == cells


def test_cells_are_256_a_side_thinned_out_and_inside_of_the_picture():
    assert cell_of((0, 0), (640, 480)) == (0, 0) and cell_of((639.9, 479.9), (640, 480)) == (255, 255)
    assert cell_of((320, 240), (640, 480)) == (128, 128) and cell_of((-3, 999), (640, 480)) == (0, 255)
    trace = [(100, 100), (101, 100), (102, 100), (103, 100), (300, 100), (255, 255), (-1, 100), (100, -1), (250, 100)]
    assert path_of(trace, (256, 256)) == [(100, 100), (102, 100), (255, 255), (250, 100)]


def test_marks_that_barely_move_are_left_out_and_do_not_slow_the_others_down():
    slow, fast = line((100, 100), (1.0, 0)), line((100, 300), (10, 0))
    item = tagged(slow, fast, STILL)
    assert moving_paths(item.record, 1.0).keys() == {2}
    assert moving_paths(item.record, 0.3).keys() == {1, 2}
    question = converse(TraceRecipe(tell_speed=True), item)[1][0].text
    assert "go 4 cells a step" in question


def test_a_picture_in_which_nothing_moves_is_rejected_or_its_marks_are_located():
    item = tagged(STILL, line((11, 21), (0, 0)))
    with pytest.raises(Rejected, match=r"nothing moves: no mark goes 1.0 cells a step; still=locate") as caught:
        next(TraceRecipe().conversation(item, Random(0)))
    assert caught.value.kind == "nothing moves"
    _, (question, answer) = converse(TraceRecipe(still="locate"), item)
    assert answer.text == "Mark 1 at [120,107]. Mark 2 at [4,11]." == places_text(item.record)
    assert any(question.text.endswith(wording) for wording in LOCATE_QUESTIONS) and "step" not in question.text


def test_marks_without_a_trace_are_refused_with_the_source_that_gives_them():
    with pytest.raises(Rejected, match=r"no traces: .*source=video"):
        next(TraceRecipe().conversation(tagged(STILL, ()), Random(0)))


def test_marks_with_letters_are_refused():
    letters = replace(get_preset("paper"), labels="letters")
    with pytest.raises(Rejected, match=r"marks without numbers: .*marks\.labels=numbers"):
        next(TraceRecipe().conversation(tagged(STILL, STILL, preset=letters), Random(0)))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Nothing moves.", "no mark with a position"),
        ('Mark 1 at [1,1]\n\n"Mark 1": "[[4,4]]"\n\n"Mark 9": "[[4,4],[8,8]]"', "invented: 9"),
        ('Mark 1 at [1,1], Mark 2 at [5,5]\n\n"Mark 1": "[[4,4]]"', "without a path: 2"),
        ('Mark 1 at [1,1]\n\n"Mark 1": "[[4,256]]"', "outside of the grid: 1"),
    ],
)
def test_an_answer_that_does_not_fit_the_marks_is_rejected(answer, problem):
    conversation = TraceRecipe().conversation(tagged(line((10, 10), (5, 5)), STILL), Random(0))
    next(conversation)
    with pytest.raises(Rejected, match=f"the positions do not fit the marks: {problem}") as caught:
        conversation.send(Answer(answer))
    assert caught.value.answer == answer
    assert place_problems("Mark 1 at [1,1]. Mark 7 at [300,2].", [1, 2]) == [
        "missing: 2",
        "invented: 7",
        "outside of the grid: 7",
    ]


def test_questions_are_many_whole_and_decided_by_the_given_rng():
    assert min(len(set(TRACE_QUESTIONS)), len(set(LOCATE_QUESTIONS)) + 4) >= 12 and len(set(SCENES)) >= 6
    assert all("{marks}" in scene for scene in SCENES) and all("{steps}" in ask for ask in TRACE_QUESTIONS)
    item = tagged(line((10, 10), (40, 0), frames=2))
    asked = {converse(TraceRecipe(), item, seed=seed)[1][0].text for seed in range(60)}
    assert len(asked) > 30 and all("1 step" in question and "1 steps" not in question for question in asked)
    assert converse(TraceRecipe(), item, seed=7) == converse(TraceRecipe(), item, seed=7)


def test_a_speed_that_no_mark_can_have_is_refused():
    with pytest.raises(ValueError, match=r"min_speed=-1: give cells a step"):
        TraceRecipe(min_speed=-1)

from types import SimpleNamespace

import pytest

from data_gen.recipes.instructions import SOME_REGIONS, SOME_REGIONS_LETTERS
from eval.tasks.som_listing.score import score_listing
from eval.tasks.som_listing.task import QUESTION, QUESTION_FOR_LETTERS

NAMES = ["cup", "red circle", "laptop", "chair", "chair", "window", "potted plant"]
PERFECT = {
    "accuracy": 1.0,
    "name_recall": 1.0,
    "id_recall": 1.0,
    "id_precision": 1.0,
    "order_error": 0.0,
    "overrun": 0.0,
    "association_error": 0.0,
    "unparsable": 0.0,
}


def record(names):
    marks = [SimpleNamespace(label=str(number), category=name) for number, name in enumerate(names, 1)]
    return SimpleNamespace(image="photo.jpg", marks=marks)


def listing(names):
    return "\n".join(f"{number}. {name}" for number, name in enumerate(names, 1))


@pytest.mark.parametrize(
    "answer",
    [
        listing(NAMES),
        ", ".join(f"{number}. {name}" for number, name in enumerate(NAMES, 1)) + ".",
        listing([f"A {name.title()}." for name in NAMES]),
        "There are seven tagged objects.\n\n" + listing(NAMES) + "\n\nTag 3 may also be a screen.",
    ],
)
def test_perfect_answers_get_the_best_score(answer):
    assert score_listing(answer, record(NAMES)).metrics() == PERFECT


@pytest.mark.parametrize("answer", ["", "   ", "I cannot see any numbers in this photo."])
def test_an_empty_or_unreadable_answer_gets_the_worst(answer):
    metrics = score_listing(answer, record(NAMES)).metrics()
    assert [metrics[name] for name in ("accuracy", "name_recall", "id_recall", "id_precision")] == [0, 0, 0, 0]
    assert metrics["unparsable"] == 1


def test_seven_tags_answered_by_eleven_items():
    score = score_listing(listing(NAMES + ["green plant"] * 4), record(NAMES))
    assert (score.tags, score.items, score.correct, score.overrun) == (7, 11, 7, 4)
    assert score.metrics()["id_precision"] == pytest.approx(7 / 11)
    assert score.metrics()["id_recall"] == 1


def test_swapped_ids_are_association_errors():
    score = score_listing("1. red circle\n2. cup\n3. laptop", record(NAMES[:3]))
    assert (score.correct, score.misassociated, score.named, score.found) == (1, 2, 3, 3)


def test_a_wrong_name_that_no_other_mark_has_is_no_association_error():
    score = score_listing("1. dog\n2. red circle\n3. laptop", record(NAMES[:3]))
    assert (score.correct, score.misassociated) == (2, 0)


@pytest.mark.parametrize("said", ["mug", "circle", "red", "blue circle", "red square", "a red circle beside a cup"])
def test_synonyms_and_halves_are_not_guessed(said):
    assert score_listing(f"1. {said}", record(["red circle"])).correct == 0


def test_missing_and_repeated_ids():
    score = score_listing("1. cup\n1. cup\n3. laptop", record(NAMES[:3]))
    assert (score.items, score.found, score.correct, score.named, score.overrun) == (3, 2, 2, 2, 0)
    assert score.misplaced == 1
    assert score_listing("1. cup\n1. hat", record(NAMES[:1])).correct == 1, "the first mention stands"


@pytest.mark.parametrize(("order", "moves"), [([1, 2, 3], 0), ([3, 1, 2], 1), ([3, 2, 1], 2), ([2, 1, 3], 1)])
def test_order_errors_count_the_items_to_move(order, moves):
    answer = "\n".join(f"{number}. {NAMES[number - 1]}" for number in order)
    score = score_listing(answer, record(NAMES[:3]))
    assert (score.misplaced, score.correct) == (moves, 3)


def test_a_name_counts_as_often_as_the_image_has_it():
    score = score_listing("1. chair\n2. chair\n3. chair", record(["chair", "cup", "chair"]))
    assert (score.named, score.correct, score.misassociated) == (2, 2, 1)


@pytest.mark.parametrize("names", [[], ["cup", None]])
def test_a_record_without_names_cannot_be_scored(names):
    with pytest.raises(ValueError, match=r"photo\.jpg.*cannot be scored"):
        score_listing("1. cup", record(names))


def test_listings_by_letters_are_scored_by_what_the_tags_say():
    marks = [SimpleNamespace(label=label, category=name) for label, name in zip("abc", NAMES, strict=False)]
    picture = SimpleNamespace(image="photo.jpg", marks=marks)
    assert score_listing("a. cup\nb. a red circle\nc. laptop", picture).metrics() == PERFECT
    score = score_listing("Tag b is on a cup, tag a is on a red circle, tag d is on a hat.", picture)
    assert (score.correct, score.misassociated, score.found, score.items, score.misplaced) == (0, 2, 2, 3, 1)
    picture.marks[0].label = "7a"
    with pytest.raises(ValueError, match=r"tags say '7a', 'b', 'c'.*marks\.labels=numbers or letters"):
        score_listing("7a. cup", picture)


@pytest.mark.parametrize(
    ("name", "said"),
    [("diningtable", "dining table"), ("wall-other-merged", "the wall"), ("floor-wood", "wooden floor")],
)
def test_names_that_data_sets_write_oddly_are_named_by_their_words(name, said):
    assert (
        score_listing(f"1. {said}", record([name])).correct == score_listing(f"1. {name}", record([name])).correct == 1
    )


def test_the_questions_are_ones_that_training_data_uses_for_tags_anywhere():
    assert QUESTION in SOME_REGIONS and QUESTION_FOR_LETTERS in SOME_REGIONS_LETTERS

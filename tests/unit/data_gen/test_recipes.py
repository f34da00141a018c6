"""Recipes with an annotator that answers from a script: what is asked, repaired, kept and rejected."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from data_gen import checks
from data_gen.annotators.ground_truth import GroundTruthAnnotator
from data_gen.checks.dialogue import dialogue_findings, parse_dialogue
from data_gen.checks.findings import Limits, ListLimits
from data_gen.checks.labels import Labels
from data_gen.checks.listing import (
    id_findings,
    item_findings,
    mention_findings,
    reference_findings,
    uniqueness_findings,
)
from data_gen.prompts.examples import description_examples, dialogue_examples, listing_examples
from data_gen.prompts.repair import FAULTS
from data_gen.recipes import questions
from data_gen.recipes.instructions import EVERY_OBJECT, FAMILIES, SOME_REGIONS, SOME_REGIONS_LETTERS, instructions
from data_gen.recipes.listing import ListingRecipe
from data_gen.recipes.qa import QaRecipe
from data_gen.recipes.refer import ReferRecipe
from data_gen.requests import Rejected
from llava_som.marks import parse_listing
from llava_som.marks.record import RecordedRegion, SkippedRegion
from tests.unit.data_gen.conversations import Script, boxes, converse, preset, voc_photo

TRUTH = GroundTruthAnnotator()
PICTURE = boxes(["cat", "dog", "cup"])
GOOD = "1. A cat.\n2. A dog.\n3. A cup."


def listing(*answers, **options):
    script = Script(*answers)
    return converse(ListingRecipe(**options), PICTURE, script)[1].text, script.requests


def rejected(recipe, picture, *answers):
    with pytest.raises(Rejected) as caught:
        converse(recipe, picture, TRUTH if answers == (TRUTH,) else Script(*answers))
    return caught.value


# listing


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (GOOD, GOOD),
        ("Sure, here is the list:\n\n2. A dog.\n1. A cat.\n3. A cup.\n\nNote that tag 2 is blurred.", GOOD),
        ("- Tag 1 is on a cat\n- Tag 2 is on a dog\n- Tag 3 is on a cup", "1. a cat\n2. a dog\n3. a cup"),
        ('{"1": "cat", "2": "dog", "3": "cup"}', "1. cat\n2. dog\n3. cup"),
        (GOOD + "\n\nI'm sorry, but I can't identify people.", GOOD),
    ],
)
def test_a_list_is_restated_as_ascending_lines_without_what_surrounds_it(said, kept):
    assert listing(said)[0] == kept


def test_the_model_sees_the_picture_and_the_rules_but_not_the_instruction():
    text, (request,) = listing(GOOD)
    assert [message.text for message in request.messages] == [""] and text == GOOD
    for fact in ("visual assistant", "at their centre", "somewhere else|elsewhere", "one by one", "not sure"):
        assert any(word in request.system for word in fact.split("|")), fact
    assert len(request.examples) == 2 and not listing(GOOD, examples=False)[1][0].examples


def test_a_model_is_told_of_tags_that_stand_beside_their_things_only_where_some_do():
    assert "beside it" not in listing(GOOD)[1][0].system
    moved = [mark.model_copy(update={"tag_box_xyxy": (300, 300, 310, 310)}) for mark in PICTURE.record.marks]
    picture = replace(PICTURE, record=PICTURE.record.model_copy(update={"marks": moved}))
    script = Script(GOOD)
    converse(ListingRecipe(), picture, script)
    assert "beside it" in script.requests[0].system


def test_a_model_is_told_of_tags_at_the_corners_of_boxes_and_of_their_colours():
    for changes in ({}, {"draw": ("box", "mark"), "tag_colour": "palette"}):
        script = Script(GOOD)
        converse(ListingRecipe(), boxes(["cat", "dog", "cup"], placement="anchors", **changes), script)
        system = script.requests[0].system
        assert "at a corner of their box" in system and "at their centre" not in system
        assert ("colour of the outline" in system) == bool(changes)


def test_one_repair_names_what_is_wrong_and_keeps_what_was_right():
    text, (first, again) = listing("1. A cat.\n2. A dog.\n2. A hound.", "2. A hound.\n3. A cup.\n1. A tiger.")
    assert text == "1. A cat.\n2. A hound.\n3. A cup."
    assert again.messages[:2] == (*first.messages, again.messages[1]) and again.messages[1].role == "assistant"
    assert again.messages[1].text == "1. A cat.\n2. A dog.\n2. A hound." and again.truth is None
    asked = again.messages[2].text
    assert "left out tag 3" in asked and "tag 2 more than once" in asked and "only the lines for tags 2 and 3" in asked


def test_after_an_invented_tag_the_whole_list_is_asked_for_again():
    text, requests = listing("1. A dog.\n2. A cup.\n3. A hat.\n4. A boat.", GOOD)
    assert text == GOOD
    assert "no tag 4 in the picture" in requests[1].messages[2].text
    assert "the whole list" in requests[1].messages[2].text


def test_a_list_that_stays_incomplete_is_rejected_with_both_answers():
    error = rejected(ListingRecipe(), PICTURE, "1. A cat.", "2. A dog.")
    assert error.kind == "missing tags" and str(error) == "missing tags: 3"
    assert "1. A cat." in error.answer and "2. A dog." in error.answer


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("I'm sorry, I can't help with that.", "As an AI, I cannot.", "refusal"),
        ("", "", "empty answer|missing tags"),
        ("1. unclear\n2. possibly a dog\n3. not visible", "1. unclear\n2. perhaps a dog\n3. no item", "mostly unsure"),
        ("1. " + "word " * 80 + "\n2. A dog.\n3. A cup.", "1. a", "cut off"),
        ("1. <image>\n2. A dog.\n3. A cup.", "1. <image>\n2. dog\n3. cup", "placeholder in the text"),
        ("1. left of tag 8\n2. A dog.\n3. A cup.", "1. left of tag 8", "refers to invented tags"),
    ],
)
def test_answers_that_stay_bad_are_rejected_by_kind(first, second, kind):
    error = rejected(ListingRecipe(), PICTURE, first, second)
    assert error.kind in kind.split("|") and first in error.answer and second in error.answer


def test_the_first_answer_is_kept_when_the_annotator_fails_at_the_second():
    error = rejected(ListingRecipe(), PICTURE, "1. A cat.", Rejected("too long", "cut at 9 tokens", "1. A"))
    assert error.kind == "too long" and error.answer.startswith("1. A cat.") and error.answer.endswith("1. A")


def test_agreement_with_the_annotation_is_checked_on_request():
    wrong = "1. A boat.\n2. A dock.\n3. A cup."
    assert listing(wrong)[0] == wrong
    text, requests = listing(wrong, GOOD, min_agreement=0.9)
    assert text == GOOD and "what is under tags 1 and 2" in requests[1].messages[2].text


def test_ground_truth_lists_the_names_and_is_never_asked_twice():
    turns = converse(ListingRecipe(), voc_photo(), TRUTH)
    assert len(parse_listing(turns[1].text)) == 19 and turns[1].text.splitlines()[11] == "12. bottle"
    error = rejected(ListingRecipe(), boxes(["cat", "x <image>"]), TRUTH)
    assert error.kind == "placeholder in the text" and error.answer == "1. cat\n2. x <image>"
    error = rejected(ListingRecipe(), boxes(["cat", None, " "]), TRUTH)
    assert str(error).startswith("the annotation does not know: there is no class name for mark 2, 3")


@pytest.mark.parametrize(
    "names", [["bus 42"], ["person, standing", "a | b", "dog"], ["狗", "café", "Ελλάδα"], ["cat"] * 20]
)
@pytest.mark.parametrize("style", ["lines", "sentence"])
@pytest.mark.parametrize("labels", ["numbers", "letters"])
def test_any_names_and_labels_are_listed_and_read_back(names, style, labels):
    picture = boxes(names, labels=labels)
    text = converse(ListingRecipe(style=style), picture, TRUTH)[1].text
    assert ("\n" in text) == (style == "lines" and len(names) > 1)
    read = Labels.of([mark.label for mark in picture.record.marks]).items(text)
    assert [(item.label, item.text) for item in read] == [(mark.label, mark.category) for mark in picture.record.marks]


def test_a_sentence_whose_items_run_into_each_other_is_rejected():
    error = rejected(ListingRecipe(style="sentence"), PICTURE, *["1. a. 2. cat\n2. a dog\n3. a cup"] * 2)
    assert error.kind == "items that run into each other" and "a. 2. cat" in error.answer


def test_labels_no_list_can_be_read_back_for_are_rejected():
    error = rejected(ListingRecipe(), boxes(["cat", "dog"], labels=("x1", "y2")))
    assert error.kind == "labels that cannot be read back"


def test_instructions_are_many_in_two_families_and_fit_the_labels_and_the_style():
    sentences = EVERY_OBJECT + SOME_REGIONS
    assert len(set(sentences)) == len(sentences) >= 44 and len(EVERY_OBJECT) >= 11 and len(SOME_REGIONS) >= 30
    for family in FAMILIES.values():
        assert all(sentence == sentence.strip() and sentence[-1] in ".?" for sentence in family)
    record = of_scenes(PICTURE.record)
    assert set(instructions("any", "number", "lines", record)) == set(sentences)
    letters = instructions("any", "letter", "lines", record)
    assert letters and not any("number" in text or "numeric" in text or "ID" in text for text in letters)
    assert not any("line" in text for text in instructions("any", "number", "sentence", record))
    for family, allowed in (("every_object", EVERY_OBJECT), ("some_regions", SOME_REGIONS)):
        recipe = ListingRecipe(instructions=family)
        drawn = {converse(recipe, PICTURE, TRUTH, seed)[0].text.removeprefix("<image>\n") for seed in range(30)}
        assert drawn <= set(allowed) and len(drawn) > 5


def of_scenes(record):
    return record.model_copy(update={"origin": {"name": "scenes"}})


def drawn_for(record, **options):
    recipe = ListingRecipe(**options)
    picture = replace(PICTURE, record=record)
    return {converse(recipe, picture, TRUTH, seed)[0].text.removeprefix("<image>\n") for seed in range(300)}


@pytest.mark.parametrize("labels", ["numbers", "letters"])
def test_only_instructions_that_are_true_of_the_picture_are_drawn(labels):
    claims = re.compile(r"centre|middle|under|beneath|\b(?:is|placed|put|lies?) on\b|wear|on the objects|on it")
    record = of_scenes(boxes(["cat", "dog", "cup"], labels=labels).record)
    assert any(claims.search(text) for text in drawn_for(record))
    away = [mark.model_copy(update={"leader_xyxy": (0, 0, 9, 9)}) for mark in record.marks]
    beside = drawn_for(record.model_copy(update={"marks": away}))
    assert len(beside) > 9 and not any(claims.search(text) for text in beside)
    assert drawn_for(of_scenes(boxes(["cat", "dog", "cup"], labels=labels, placement="anchors").record)) <= beside

    some = set(SOME_REGIONS if labels == "numbers" else SOME_REGIONS_LETTERS)
    for origin in ({}, {"name": "coco"}, {"name": "cutouts"}):  # a photo holds more than its annotation names
        photo = record.model_copy(update={"origin": origin})
        assert drawn_for(photo) == some and not drawn_for(photo, instructions="every_object") & some
    seen = {**record.marks[0].model_dump(include={*RecordedRegion.model_fields}), "reason": "too many"}
    unmarked = record.model_copy(update={"skipped": [SkippedRegion(**seen)]})
    assert drawn_for(unmarked) <= some
    hidden = record.model_copy(update={"skipped": [SkippedRegion(**{**seen, "area_visible": 0})]})
    assert drawn_for(hidden) == drawn_for(record)

    screen = boxes(["OK", "Save", "Help"], attributes=[("button", "interactive")] * 3, labels=labels).record
    assert drawn_for(screen) == set(FAMILIES["screen", labels[:-1]])


def test_no_instruction_claims_what_no_sidecar_knows():
    for text in EVERY_OBJECT + SOME_REGIONS:
        assert not re.search(r"bright|small|photo|some of the background|from small to large", text), text


def test_the_annotation_may_say_anything_that_training_can_read():
    said = ["Save as...", "I cannot help", "letter a", "possibly", "1. Overview", "$19.99", "https://a.example/?q=1"]
    assert converse(ListingRecipe(), boxes(said), TRUTH)[1].text == "\n".join(
        f"{n}. {s}" for n, s in enumerate(said, 1)
    )
    assert rejected(ListingRecipe(), boxes(["<image>", "b"]), TRUTH).kind == "placeholder in the text"
    assert rejected(ListingRecipe(), boxes(["...", "b"]), TRUTH).kind == "empty"
    assert rejected(ListingRecipe(style="sentence"), boxes(["a, 2. b", "c"]), TRUTH).kind.startswith("items that run")
    table = converse(ListingRecipe(), boxes(["diningtable", "floor-wood", "wall-other-merged", "T-shirt"]), TRUTH)[1]
    assert table.text == "1. dining table\n2. wooden floor\n3. wall\n4. T-shirt"


# worked examples


@pytest.mark.parametrize("changes", [{}, {"labels": "letters"}])
def test_the_built_in_examples_pass_the_checks_they_are_examples_for(changes):
    style = preset(**changes)
    counting = [*"abcdefghijkl"] if changes else [str(number) for number in range(1, 13)]
    for example, count in zip(listing_examples(style, "lines"), (12, 11), strict=True):
        labels = Labels.of(counting[:count])
        items = labels.items(example.answer)
        texts = {item.label: item.text for item in items}
        assert not id_findings(items, labels) and not reference_findings(texts, labels)
        assert not item_findings(texts, {}, ListLimits())
        assert example.image.open().size == (426, 320) and len(example.image.data) < 60_000
    for example in dialogue_examples(style):
        assert not dialogue_findings(parse_dialogue(example.answer), Labels.of(counting), (4, 4), Limits())
    for example in description_examples(style):
        texts = {item.label: item.text for item in labels.items(example.answer)}
        assert texts and not uniqueness_findings(texts) and not mention_findings(texts, labels)


def test_a_preset_that_marks_less_leaves_no_reference_to_what_it_left_out():
    style = preset(max_tags=4)
    for example in (*listing_examples(style, "lines"), *dialogue_examples(style)):
        assert set(Labels.of(["1", "2", "3", "4"]).cited(example.answer)) <= {"1", "2", "3", "4"}
        assert "[" not in example.answer and "{" not in example.answer


def test_examples_of_ones_own_come_from_a_llava_file(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE.image.data)
    rows = [{"image": "a.png", "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": GOOD}]}]
    file = tmp_path / "own.json"
    file.write_text(json.dumps(rows))
    _, (request,) = listing(GOOD, examples_file=file)
    assert [(example.answer, example.image) for example in request.examples] == [(GOOD, PICTURE.image)]
    assert ListingRecipe(examples_file=file).describe() != ListingRecipe().describe()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "1 to 8 records"),
        ([{"image": "a.png"}], 'record 1: needs "image" and "conversations"'),
        ([{"image": "b.png", "conversations": [{"value": GOOD}]}], "b.png has to be a .jpg or .png file"),
        ([{"image": "../a.png", "conversations": [{"value": GOOD}]}], "outside"),
        ([{"image": "a.png", "conversations": [{"value": "no list"}]}], "is not a list of tags"),
    ],
)
def test_a_file_of_examples_that_cannot_be_used_is_an_error_before_the_run(tmp_path, rows, message):
    (tmp_path / "a.png").write_bytes(PICTURE.image.data)
    (tmp_path / "own.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=message):
        ListingRecipe(examples_file=tmp_path / "own.json")


# qa and refer with a model

TALK = "Q: Which tag is on the dog?\nA: Tag 2 is.\nQ: What is tagged 3?\nA: A cup, tagged 3."


def test_a_conversation_becomes_turns_and_is_repaired_once():
    script = Script(TALK.replace("Tag 2", "Tag 7"), "Here it is.\n" + TALK)
    turns = converse(QaRecipe(), PICTURE, script)
    assert [turn.text for turn in turns] == [
        "<image>\nWhich tag is on the dog?",
        "Tag 2 is.",
        "What is tagged 3?",
        "A cup, tagged 3.",
    ]
    assert "no tag 7 in the picture" in script.requests[1].messages[-1].text
    assert "2 to 5 questions" in script.requests[0].system and "Q: " in script.requests[0].examples[0].answer


def test_a_conversation_that_stays_bad_is_rejected_with_both_answers():
    error = rejected(QaRecipe(turns=(3, 5)), PICTURE, TALK, "Q: no")
    assert error.kind == "no alternating questions and answers" and TALK in error.answer and "Q: no" in error.answer
    script = Script(TALK.replace("Tag 2 is.", "Tag 2 is the"), TALK)
    converse(QaRecipe(), PICTURE, script)
    assert "Your text for answer 1 stops in the middle." in script.requests[1].messages[-1].text
    assert rejected(QaRecipe(), PICTURE, "I'm sorry, I can't assist with that.", "I cannot help.").kind == "refusal"


def test_descriptions_are_used_in_both_directions_and_told_apart():
    script = Script("1. A cup\n2. the cup\n3. the cat tagged 1", "1. A cup with a chip\n2. the largest cup\n3. the cat")
    questions, answers = [], []
    for seed in range(20):
        turns = converse(ReferRecipe(turns=(3, 3)), PICTURE, Script(*script.answers), seed)
        questions += [turn.text for turn in turns[::2]]
        answers += [turn.text for turn in turns[1::2]]
    converse(ReferRecipe(), PICTURE, script)
    asked = script.requests[1].messages[-1].text
    assert "do not tell tags 1 and 2 from each other" in asked and "for tag 3 mentions a tag" in asked
    forwards = [text for text in questions if "the cup with a chip" in text]
    assert 5 < len(forwards) < 35 and any(text == "The cup with a chip." for text in answers)
    assert not any("A cup" in text for text in questions)


def test_every_fault_a_check_can_find_has_a_sentence_that_asks_for_repair():
    sources = "".join(file.read_text() for file in Path(checks.__file__).parent.glob("*.py"))
    kinds = set(re.findall(r"Finding\(\"([^\"]+)\"", sources)) | {"missing tags", "repeated tags", "cut off", "empty"}
    assert len(kinds) > 15 and kinds <= FAULTS.keys()
    answers = ["1. A cat.\n9. x", "1. a", "1. " + "so " * 90, "", "I'm sorry, I can't.", "1. maybe\n2. maybe\n3. maybe"]
    for said in [*answers, TALK, TALK * 9, "Q: A tag?\nA: Yes.\nQ: A tag?\nA: Yes.", "Q: <image>?\nA: the\nQ: b\nA: c"]:
        for recipe in (ListingRecipe(), QaRecipe(turns=(3, 4)), ReferRecipe()):
            with pytest.raises(Rejected) as caught:
                converse(recipe, PICTURE, Script(said, "nothing"))
            assert "nothing" in caught.value.answer and caught.value.kind in FAULTS


# all of them


@pytest.mark.parametrize(
    "recipe", [ListingRecipe(), QaRecipe(), ReferRecipe()], ids=lambda recipe: type(recipe).__name__
)
def test_a_recipe_travels_to_other_processes_and_says_what_it_was_worded_with(recipe):
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert recipe.describe() == recipe.describe() and len(recipe.describe()["wording_sha256"]) == 64
    assert len({other.describe()["wording_sha256"] for other in (ListingRecipe(), QaRecipe(), ReferRecipe())}) == 3


def test_the_wordings_that_are_hashed_are_all_that_questions_are_made_of():
    for wording in (questions.TOWARDS, questions.SUPERLATIVE, questions.COMPARATIVE, questions.COUNT, questions.IS_ON):
        assert wording in questions.TEMPLATES


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (QaRecipe, {"turns": (3, 2)}, r"turns=\[3, 2\]"),
        (ReferRecipe, {"turns": (0, 2)}, r"turns=\[0, 2\]"),
        (QaRecipe, {"kinds": ()}, "kinds="),
        (ListingRecipe, {"max_words": 0}, "max_words=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(recipe, options, message):
    with pytest.raises(ValueError, match=message):
        recipe(**options)


def test_an_image_without_marks_has_nothing_to_ask_about():
    empty = boxes(["cat"], max_tags=1).record.model_copy(update={"marks": []})
    for recipe in (ListingRecipe(), QaRecipe(), ReferRecipe()):
        with pytest.raises(Rejected, match="no marks"):
            next(recipe.conversation(type(PICTURE)("x", PICTURE.image, empty), Random(0)))


SCRAPS = ["1", "2", "9", "a", ". ", ") ", ": ", "[", "]", '"', "{", "}", "Tag ", "tagged ", "\n", "- ", "Q: ", "A: "]
SCRAPS += ["cat", " is on ", "the ", "possibly ", ", ", "\u2028", "{tag}", "%s", "\\", "note that ", "<image>"]


@pytest.mark.parametrize("labels", ["numbers", "letters"])
def test_whatever_a_model_says_is_a_checked_conversation_or_a_rejection(labels):
    picture = boxes(["cat", None, "cup"], labels=labels)
    known = Labels.of([mark.label for mark in picture.record.marks])
    rng, finished = Random(0), 0
    for number in range(400):
        recipe = rng.choice([ListingRecipe(), ListingRecipe(style="sentence"), QaRecipe(turns=(1, 5)), ReferRecipe()])
        lines = [f"{label}. {''.join(rng.choices(SCRAPS, k=3))}\n" for label in rng.sample(known.names, 3)]
        said = ["".join(rng.choices(SCRAPS, k=30)), "".join(lines)]
        try:
            turns = converse(recipe, picture, Script(*said), number)
        except Rejected as error:
            assert error.kind and all(text in error.answer for text in said[:1])
            continue
        finished += 1
        text = "\n".join(turn.text for turn in turns)
        assert text.count("<image>") == 1
        assert isinstance(recipe, ReferRecipe) or set(known.cited(text)) <= set(known.names)
        if isinstance(recipe, ListingRecipe):
            assert [item.label for item in known.items(turns[1].text)] == [*known.names]
    assert finished > 20

"""Every statement of the rule-based questions is verified again from the masks, by code that shares none with them."""

import re
from collections import Counter
from random import Random
from typing import get_args

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from data_gen.annotators.ground_truth import GroundTruthAnnotator
from data_gen.checks.labels import Labels
from data_gen.recipes.descriptions import unique_descriptions
from data_gen.recipes.qa import QaRecipe
from data_gen.recipes.refer import ReferRecipe
from data_gen.recipes.rule_based import Kind, rule_dialogue
from data_gen.recipes.subjects import Scene
from data_gen.requests import Rejected
from llava_som.marks import Region, normalize_name
from llava_som.marks.record import RecordedRegion, SkippedRegion
from tests.unit.data_gen.conversations import SIDE, boxes, converse, scattered, voc_photo
from tests.unit.data_gen.conversations import tagged as marked

PLURALS = {"person": "people", "wine glass": "wine glasses", "sheep": "sheep", "dog": "dogs"}
NAMES = [*PLURALS, "skis", "grass"]
COLOURS = ["red", "blue", "white"]
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
PLACES = {"to the left of": (1, "max", "min"), "above": (0, "max", "min")}
OPPOSITES = {"to the right of": "to the left of", "below": "above"}
COMPARED = {"further to the left": "to the left of", "further to the right": "to the right of", "higher up": "above"}
COMPARED |= {"further down": "below"}
FURTHEST = {"furthest to the left": "to the left of", "furthest to the right": "to the right of", "highest up": "above"}
FURTHEST |= {"furthest down": "below"}


class Oracle:
    """What is true of a tagged picture, from its masks, names and attributes."""

    def __init__(self, tagged):
        self.masks = {mark.label: mark.region().full_mask() for mark in tagged.record.marks}
        self.distances = {}
        self.names = {mark.label: mark.category for mark in tagged.record.marks}
        self.colours = {mark.label: mark.attributes for mark in tagged.record.marks}

    def tags(self, text):
        """The tags a text cites; every one exists, and is mentioned by its own name."""
        found = re.findall(r"(?i)\btag(?:s|ged| is)? (\d+(?:(?:, | and )\d+)*)", text)
        labels = [label for group in found for label in re.findall(r"\d+", group)]
        assert set(labels) <= set(self.masks), text
        for name, label in re.findall(r"the ([a-z ]+?) tagged (\d+)", text):
            assert name.split(" the ")[-1] in (self.names[label], "one", "thing", "things"), text
        return labels

    def is_at(self, a, place, b):
        if place in OPPOSITES:
            return self.is_at(b, OPPOSITES[place], a)
        axis = PLACES[place][0]
        first, second = (np.nonzero(self.masks[label])[axis] for label in (a, b))
        return first.max() < second.min()

    def group(self, text):
        """The tags of the class that a question is about; all of them where it names no class."""
        classes = {name: rf"tagged (?:{name}|{plural})\b(?! tagged)" for name, plural in PLURALS.items()}
        words = [name for name, pattern in classes.items() if re.search(pattern, text)]
        return [label for label, name in self.names.items() if not words or name == words[0]]

    def area(self, label):
        return self.masks[label].sum()

    def gap(self, a, b):
        if b not in self.distances:
            self.distances[b] = 2 * distance_transform_edt(~self.masks[b][::2, ::2])
        return self.distances[b][self.masks[a][::2, ::2]].min()


def check_count(oracle, question, answer):
    labels = oracle.tags(answer)
    words = [name for name, plural in PLURALS.items() if re.search(rf"\b{plural}\b", question)]
    stated = re.search(rf"\b({'|'.join(NUMBERS)})\b", answer.lower())
    if words:
        assert sorted(labels) == sorted(label for label, name in oracle.names.items() if name == words[0])
        assert NUMBERS[len(labels)] == stated[1]
    else:
        assert NUMBERS[len(oracle.masks)] == stated[1]


def check_position(oracle, question, answer):
    first, second, *_ = oracle.tags(question)
    places = [place for place in (*PLACES, *OPPOSITES) if place in answer]
    if answer.startswith(("Yes", "No")):
        (asked,) = [place for place in (*PLACES, *OPPOSITES) if place in question]
        assert (asked in answer) == answer.startswith("Yes") and oracle.is_at(first, places[0], second)
        assert oracle.is_at(first, asked, second) == answer.startswith("Yes")
    elif compared := [words for words in COMPARED if words in question]:
        winner, loser = oracle.tags(answer)
        assert {winner, loser} == {first, second} and oracle.is_at(winner, COMPARED[compared[0]], loser)
    else:
        assert places and all(oracle.is_at(first, place, second) for place in places)


def check_extreme(oracle, question, answer):
    (winner,) = oracle.tags(answer)
    (words,) = [words for words in FURTHEST if words in question]
    others = [label for label in oracle.group(question) if label != winner]
    assert others and winner in oracle.group(question) and words in answer
    assert all(oracle.is_at(winner, FURTHEST[words], other) for other in others)


def check_nearest(oracle, question, answer):
    (to,) = oracle.tags(question)
    winner = oracle.tags(answer)[0]
    group = [label for label in oracle.group(question) if label != to]
    assert winner in group and len(group) > 1
    assert all(oracle.gap(winner, to) <= oracle.gap(other, to) + 8 for other in group)


def check_size(oracle, question, answer):
    compared = oracle.tags(question)
    winner = oracle.tags(answer)[0]
    others = [label for label in compared or oracle.group(question) if label != winner]
    assert others and winner in (compared or oracle.group(question))
    assert all(oracle.area(winner) >= 1.5 * oracle.area(other) for other in others)


def check_colour(oracle, question, answer):
    labels = oracle.tags(question)
    said = [colour for colour in COLOURS if colour in answer.lower()]
    if len(labels) == 2:
        same = oracle.colours[labels[0]] == oracle.colours[labels[1]]
        assert answer.startswith("Yes") == same and answer.startswith("No") != same
        assert said and all((colour,) in (oracle.colours[label] for label in labels) for colour in said)
    elif labels:
        assert tuple(said) == oracle.colours[labels[0]]
        if answer.startswith(("Yes", "No")):
            assert answer.startswith("Yes") == (said[0] in question)
    else:
        fitting = [label for label, words in oracle.colours.items() if said[0] in words]
        assert said[0] in question and oracle.tags(answer) == fitting


def check_same_kind(oracle, question, answer):
    (asked,) = set(oracle.tags(question))
    others = {label for label, name in oracle.names.items() if name == oracle.names[asked]} - {asked}
    assert set(oracle.tags(answer)) - {asked} == others
    stated = answer.split(":")[0].lower()
    assert stated not in NUMBERS or NUMBERS[len(others)] == stated


def check_which_tag(oracle, question, answer):
    (label,) = oracle.tags(answer)
    assert oracle.names[label] in question and list(oracle.names.values()).count(oracle.names[label]) == 1


def check_name(oracle, question, answer):
    (label,) = set(oracle.tags(question) + oracle.tags(answer))
    name = oracle.names[label]
    assert name in answer and not any(other in answer for other in NAMES if other != name)
    assert not answer.startswith("Yes") or name in question
    assert not answer.startswith("No,") or name not in question


CHECKS = {kind: globals()[f"check_{kind}"] for kind in get_args(Kind)}


def pictures(count):
    return [scattered(seed, NAMES, COLOURS, count=2 + seed % 9) for seed in range(count)]


@pytest.fixture(scope="module")
def scenes():
    return [(tagged, Oracle(tagged)) for tagged in pictures(40)]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_statement_is_true_of_the_masks(kind, scenes):
    asked, yes_or_no = set(), Counter()
    for number, (tagged, oracle) in enumerate(scenes):
        for exchange in rule_dialogue(tagged.record, Random(number), (30, 30), (kind,)):
            try:
                CHECKS[kind](oracle, exchange.question, exchange.answer)
            except AssertionError as error:
                raise AssertionError(f"{exchange}\n{oracle.names}") from error
            asked.add(exchange.question)
            yes_or_no[exchange.answer.split(",")[0].split(".")[0]] += 1
    assert len(asked) >= 8, "the random pictures did not ask enough"
    if kind in ("position", "name", "colour"):
        assert 0.6 < yes_or_no["Yes"] / yes_or_no["No"] < 1.6 and yes_or_no["Yes"] > 15


def test_conversations_mix_kinds_repeat_nothing_and_do_not_ask_what_they_told(scenes):
    told = 0
    for number, (tagged, _) in enumerate(scenes):
        exchanges = rule_dialogue(tagged.record, Random(number), (5, 5), get_args(Kind))
        questions = [exchange.question for exchange in exchanges]
        assert len(set(questions)) == len(questions)
        for place, exchange in enumerate(exchanges):
            asked = re.search(r"What (?:does tag|is the thing tagged|has been given tag) (\d+)", exchange.question)
            if asked:
                told += 1
                before = " ".join(f"{e.question} {e.answer}" for e in exchanges[:place])
                assert not re.search(rf"the (?!thing|one)[a-z ]+ tagged {asked[1]}\b", before)
    assert told > 5


def test_the_same_seed_asks_the_same_and_others_ask_otherwise():
    record = voc_photo().record
    talks = [rule_dialogue(record, Random(seed), (2, 5), get_args(Kind)) for seed in range(20)]
    assert talks == [rule_dialogue(record, Random(seed), (2, 5), get_args(Kind)) for seed in range(20)]
    assert len({tuple(talk) for talk in talks}) == 20 and {len(talk) for talk in talks} == {2, 3, 4, 5}


@pytest.mark.parametrize("seed", range(40))
def test_descriptions_fit_one_thing_only(seed):
    tagged = scattered(seed, NAMES[: 2 + seed % 4], COLOURS, count=2 + seed % 9)
    found, oracle = unique_descriptions(tagged.record), Oracle(tagged)
    assert len({normalize_name(text) for text in found.values()}) == len(found) and found.keys() <= oracle.masks.keys()
    for label, text in found.items():
        name = oracle.names[label]
        same = [other for other, kind in oracle.names.items() if kind == name and other != label]
        if text == f"the {name}":
            assert not same
        elif colour := [word for word in COLOURS if f"the {word} {name}" == text]:
            assert colour[0] in oracle.colours[label] and not any(colour[0] in oracle.colours[other] for other in same)
        elif "the leftmost" in text or text.endswith("on the left"):
            assert all(oracle.is_at(label, "to the left of", other) for other in same)
        elif "largest" in text or "larger" in text:
            assert all(oracle.area(label) > oracle.area(other) for other in same)
        elif nth := re.fullmatch(r"the (\w+) .* from the (left|right|top)", text):
            place = {"left": "to the left of", "right": "to the right of", "top": "above"}[nth[2]]
            before = sum(oracle.is_at(other, place, label) for other in same)
            assert before == ["first", "second", "third", "fourth", "fifth", "sixth"].index(nth[1])
        else:
            assert same and text.startswith("the ") and name in text


ODD_NAMES = [
    ["dog", "dog", "cup"],
    ["cat"] * 20,
    ["person", "man"],
    ["狗", "café", "cup"],
    ["a | b", "person, standing", "dog"],
]


@pytest.mark.parametrize("recipe", [QaRecipe(), ReferRecipe()], ids=["qa", "refer"])
@pytest.mark.parametrize("labels", ["numbers", "letters"])
@pytest.mark.parametrize("names", ODD_NAMES)
def test_any_names_give_tags_of_the_sidecar_or_a_reason(recipe, labels, names):
    tagged = boxes(names, labels=labels)
    known = Labels.of([mark.label for mark in tagged.record.marks])
    for seed in range(5):
        try:
            turns = converse(recipe, tagged, GroundTruthAnnotator(), seed)
        except Rejected as error:
            assert isinstance(recipe, ReferRecipe) and error.kind == "the annotation does not know"
            assert names in (ODD_NAMES[1], ODD_NAMES[2])
            continue
        text = "\n".join(turn.text for turn in turns)
        assert set(known.cited(text)) <= set(known.names) and known.cited(text)
        assert text.count("<image>") == 1 and turns[0].text.startswith("<image>\n")


def test_one_mark_is_enough_and_no_name_still_leaves_places():
    one = converse(QaRecipe(turns=(1, 1)), boxes(["dog"]), GroundTruthAnnotator())
    assert len(one) == 2 and "dog" in one[0].text + one[1].text
    assert "the dog" in str(converse(ReferRecipe(), boxes(["dog"]), GroundTruthAnnotator())).lower()
    nameless = boxes([None, None, "dog"])
    text = str([converse(QaRecipe(), nameless, GroundTruthAnnotator(), seed) for seed in range(9)])
    assert "the thing tagged 1" in text and "dogs are tagged" not in text and "How many dogs" not in text
    with pytest.raises(Rejected, match="tells no mark from all the others"):
        converse(ReferRecipe(), nameless, GroundTruthAnnotator())
    with pytest.raises(Rejected, match="makes 0 questions certain, fewer than 2"):
        converse(QaRecipe(), boxes([None]), GroundTruthAnnotator())


def screen(names):
    kinds = [("button", "interactive"), ("text",)]
    return boxes(names, attributes=[kinds[place % 2] for place in range(len(names))])


def test_what_stands_on_a_screen_is_quoted_and_never_inflected():
    tagged = screen(["Save", "Settings", "OK. done", "Save", None, "登录", "...", 'say "x"', "Tag 3", "x" * 99])
    talks = [rule_dialogue(tagged.record, Random(seed), (9, 9), get_args(Kind)) for seed in range(60)]
    text = "\n".join(f"{exchange.question} {exchange.answer}" for talk in talks for exchange in talk)
    assert 'the element "Settings" tagged 2' in text and "the element tagged 5" in text and '"登录"' in text
    assert 'marks the element "OK. done"' in text and 'tag of the element "OK. done"' in text and "OK. Done" not in text
    assert not re.search(
        r"[Ss]ettings(?!\")|\b(?:things?|button|interactive|are to the)\b|an? \"|\.\.\.|Tag 3\"|xxx", text
    )
    assert not re.search(r'(?:Which|What|By|Find)[^?]*the element "Save"(?! tagged)', text), "two elements say so"


def test_descriptions_of_a_screen_quote_it_and_tell_those_apart_that_say_the_same():
    assert unique_descriptions(screen(["Save", "Save as", None, "Save", "Next"]).record) == {
        "1": 'the element "Save" on the left',
        "2": 'the element "Save as"',
        "4": 'the element "Save" on the right',
        "5": 'the element "Next"',
    }
    answer = converse(ReferRecipe(), screen(["Sign in", "<image>"]), GroundTruthAnnotator())
    assert 'the element "Sign in"' in str(answer).replace("The element", "the element") and "tag" in str(answer).lower()


def with_unmarked(tagged, name, area_visible=50):
    """The sidecar with one more region, which got no tag."""
    fields = tagged.record.marks[0].model_dump(include={*RecordedRegion.model_fields})
    unmarked = SkippedRegion(**{**fields, "category": name, "area_visible": area_visible, "reason": "too small"})
    return tagged.record.model_copy(update={"skipped": [unmarked]})


@pytest.mark.parametrize("name", ["dog", "small dog", "puppy", None])
def test_a_class_of_which_something_has_no_tag_is_counted_as_tagged_but_not_told_apart(name):
    tagged = boxes(["dog", "cup", "cat"])
    record = with_unmarked(tagged, name)
    assert "1" not in unique_descriptions(record) and "1" in unique_descriptions(with_unmarked(tagged, name, 0))
    for seed in range(40):
        for exchange in rule_dialogue(record, Random(seed), (9, 9), get_args(Kind)):
            said = exchange.question + exchange.answer
            assert not re.search(r"[Tt]he dog\b(?! tagged)", said), said
            assert "only one" not in said or "tagged" in said


def test_a_neighbour_tells_things_apart_only_where_there_is_one_of_it():
    at = {"dog": (10, 10, 100, 100), "Dog": (60, 60, 110, 110), "cup": (180, 180, 40, 40)}
    picture = marked([Region.from_box(box, (SIDE, SIDE), name=name.lower()) for name, box in at.items()])
    assert unique_descriptions(picture.record) == {"1": "the cup", "3": "the dog nearest to the cup"}
    assert not unique_descriptions(with_unmarked(picture, "cup"))


def test_how_large_people_look_tells_nothing():
    for name, told in (("dog", {"the dog that looks smaller", "the dog that looks larger"}), ("woman", set())):
        regions = [Region.from_box(box, (SIDE, SIDE), name=name) for box in ((10, 10, 60, 60), (40, 40, 150, 150))]
        assert set(unique_descriptions(marked(regions).record).values()) == told


def test_two_tags_make_no_range():
    talks = [str(rule_dialogue(boxes(["dog", "cup"]).record, Random(seed), (1, 1), ("count",))) for seed in range(30)]
    assert any("tags 1 and 2" in talk for talk in talks) and not any("1 to 2" in talk for talk in talks)


def test_classes_that_may_be_the_same_are_not_counted_or_told_apart():
    for names in (["cup", "red cup"], ["person", "man"], ["dining table", "table"], ["red circle", "blue circle"]):
        scene = Scene.of(boxes(names).record)
        assert not scene.clear_groups and not unique_descriptions(boxes(names).record)
    coloured = boxes(["red circle", "blue circle", "star"], attributes=[["red"], ["blue"], ["red"]])
    assert unique_descriptions(coloured.record) == {"1": "the red circle", "2": "the blue circle", "3": "the star"}
    unsure = boxes(["cup", "cup"], attributes=[["red"], []])
    assert not any("red" in text for text in unique_descriptions(unsure.record).values())

import pytest

from data_gen.checks.agreement import agreement, are_synonyms, names_match
from data_gen.checks.dialogue import Exchange, dialogue_findings, dialogue_text, parse_dialogue
from data_gen.checks.findings import ListLimits, reject
from data_gen.checks.labels import Labels
from data_gen.checks.listing import (
    id_findings,
    item_findings,
    mention_findings,
    reference_findings,
    uniqueness_findings,
)
from data_gen.checks.wording import is_cut_off, is_hedged, is_loop, is_refusal, text_findings
from data_gen.requests import Rejected
from llava_som.marks.labels import LabelledItem, letters_of, rank
from tests.unit.data_gen.conversations import boxes

THREE = Labels(("1", "2", "3"))
UNNAMED: dict[str, None] = {}


def kinds(findings):
    return [finding.kind for finding in findings]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("1. cat\n2. dog\n3. a red cup, chipped", {}),
        ("1. cat\n3. cup", {"missing tags": "2"}),
        ("1. cat\n2. dog\n3. cup\n4. hat", {"invented tags": "4"}),
        ("1. cat\n2. dog\n2. dog\n3. cup", {"repeated tags": "2"}),
        ("2. dog\n1. cat\n3. cup", {"out of order": "2, 1, 3"}),
        ("I cannot see any tag.", {"missing tags": "1, 2, 3"}),
        ("12. cat\n7. dog\n1. hat", {"missing tags": "2, 3", "invented tags": "7, 12"}),
    ],
)
def test_every_fault_of_the_numbers_is_named(text, faults):
    assert {finding.kind: finding.detail for finding in id_findings(THREE.items(text), THREE)} == faults


@pytest.mark.parametrize(
    ("texts", "limits", "expected"),
    [
        ({"1": "a cat", "2": "a dog"}, {}, []),
        ({"1": "...", "2": "a dog"}, {}, ["empty"]),
        ({"1": "one two three", "2": "a dog"}, {"max_words": 2}, ["too long"]),
        ({"1": "a very very very very very big cat", "2": "a dog"}, {}, ["goes round in circles"]),
        ({"1": "the wall behind the", "2": "the table it stands on"}, {}, ["cut off"]),
        ({"1": "possibly a cat", "2": "unclear, perhaps a boat"}, {}, ["mostly unsure"]),
        ({"1": "possibly a cat", "2": "a dog"}, {}, []),
        ({"1": "possibly a cat", "2": "a dog"}, {"max_hedged": 0.4}, ["mostly unsure"]),
        ({str(k): "green plant" for k in range(5)}, {}, ["repetitive"]),
        ({**{str(k): "a green plant" for k in range(3)}, "7": "a cup", "8": "a hat"}, {}, []),
        (
            {**{str(k): "a plant" for k in range(3)}, "7": "a", "8": "b"},
            {"max_identical": 0.5},
            ["cut off", "repetitive"],
        ),
    ],
)
def test_every_fault_of_the_words_is_found_at_its_limit(texts, limits, expected):
    assert kinds(item_findings(texts, UNNAMED, ListLimits(**limits))) == expected


def test_things_of_one_annotated_class_may_read_the_same():
    texts = {str(k): "a sheep" for k in range(5)}
    assert not item_findings(texts, dict.fromkeys(texts, "sheep"), ListLimits())
    assert kinds(item_findings(texts, {**dict.fromkeys(texts, "sheep"), "2": "dog"}, ListLimits())) == ["repetitive"]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I can’t identify people.",
        "Sorry, I cannot assist with identifying people in images.",
        "Unfortunately, I am not able to see tags.",
        "As an AI language model, I have no eyes.",
        "I cannot see any tags in the image.",
        "I am unable to provide a list.",
        "I won't describe real people.",
        "This request goes against my guidelines.",
        "I do not have the ability to see images.",
        "As a text-based AI, I cannot view it.",
        "I'm afraid I can't do that.",
        "I won't be able to help with that.",
        "I cannot fulfill that request.",
        "I'm not comfortable describing this image.",
        "It seems that no image was provided.",
        "The image could not be loaded.",
        "I can't make out any tag.",
    ],
)
def test_refusals_are_found(text):
    assert is_refusal(text) and kinds(text_findings(text)) == ["refusal"]


@pytest.mark.parametrize(
    "text",
    [
        "a sorry-looking dog",
        "a dog that looks sorry for itself",
        "a T-shirt that reads \"I'm sorry, I can't help it\"",
        "a sign with the words “I cannot see the image”",
        "a can of soup that is not able to stand",
        "a robot dressed as an aid worker",
        "a person who cannot see the ball",
        "The man tagged 2 cannot reach the shelf; I can tell from his arm.",
        "an unfortunate hat",
        "A TV that shows no image.",
        "A picture frame without an image, provided by the hotel.",
        "The dog does not see the ball tagged 4.",
        "a comfortable chair",
        "I would walk around the table tagged 4.",
        'the element "Please upload the image"',
    ],
)
def test_words_that_only_look_like_a_refusal_pass(text):
    assert not is_refusal(text) and not text_findings(text)


@pytest.mark.parametrize(
    ("text", "hedged", "loop", "cut"),
    [
        ("it is not clear which object this is", True, False, False),
        ("no item", True, False, False),
        ("a clear glass, surely of water", False, False, False),
        ("a month of May flowers", False, False, False),
        ("the same tree, the same tree, the same tree", False, True, False),
        ("a row of books, books on a shelf", False, False, False),
        ("a man with a hat and a", False, False, True),
        ("it looks like some kind of jug", True, False, False),
        ("what appears to be a hat", True, False, False),
        ("too blurry to identify", True, False, False),
        ("likely a bench", True, False, False),
        ("a dog that looks at the cat", False, False, False),
        ("a person who could be seen from the door", False, False, False),
        ("an unknown soldier's monument, hard to reach", False, False, False),
        ("vitamin A", False, False, False),
        ("the letter a", False, False, False),
        ("a woman (left,", False, False, True),
        ("the same thing as tag a", False, False, False),
        ("what the plate stands on", False, False, False),
    ],
)
def test_hedges_loops_and_broken_ends(text, hedged, loop, cut):
    assert (is_hedged(text), is_loop(text), is_cut_off(text)) == (hedged, loop, cut)


def test_an_answer_that_holds_the_picture_placeholder_is_found():
    assert kinds(text_findings("1. <image> of a dog")) == ["placeholder in the text"]
    assert kinds(text_findings(" \n")) == ["empty answer"]


@pytest.mark.parametrize(
    "text",
    [
        "a. cat\nb. dog\nc. cup",
        "A) cat\nB) dog\nC) cup",
        "- Tag a is on cat\n- Tag b is on dog\n- Tag c is on cup",
        "[a] cat\n[b] dog\n[c] cup",
        "a. cat, b. dog, c. cup.",
        '{"a": "cat", "b": "dog", "c": "cup"}',
        "There are three tags.\n(a) cat\n(b) dog\n(c) cup\n\nIt is a sunny day.",
        "**a.** cat\n**b.** dog\n**c.** cup",
        "The letter A is on cat.\nThe letter B is on dog.\nThe letter C is on cup.",
        "<think>a. hat</think>| a | cat |\n| b | dog |\n| c | cup |",
        "Tag a → cat\nTag b → dog\nTag c → cup",
        "`a`: cat\n`b`: dog\n`c`: cup",
        "a：cat\nb：dog\nc：cup",
        '[{"tag": "a", "name": "cat"}, {"tag": "b", "name": "dog"}, {"tag": "c", "name": "cup"}]',
    ],
)
def test_letters_are_read_in_every_shape_numbers_are(text):
    labels = Labels.of(["b", "a", "c"])
    assert labels.items(text) == [LabelledItem("a", "cat"), LabelledItem("b", "dog"), LabelledItem("c", "cup")]


@pytest.mark.parametrize("text", ["1. cat\n2. dog", '[{"id": 1, "name": "cat"}]', "0. cat", "c. cup\n1. cat\n2. dog"])
def test_an_item_with_a_number_is_not_that_of_a_letter(text):
    assert [item.label for item in Labels.of(["a", "b", "c"]).items(text)] == ["c"] * text.startswith("c")


def test_a_numbered_list_whose_items_name_their_letters_goes_by_the_letters():
    assert Labels.of("abc").items("1. Tag a: cat\n2. Tag c: cup") == [
        LabelledItem("a", "cat"),
        LabelledItem("c", "cup"),
    ]


def test_letters_count_like_columns_and_invented_ones_are_found():
    assert [letters_of(number) for number in (1, 26, 27, 52, 53, 702, 703)] == ["a", "z", "aa", "az", "ba", "zz", "aaa"]
    assert all(rank(letters_of(number)) == number for number in range(1, 800))
    labels = Labels.of(["A", "B"])
    assert {f.kind: f.labels for f in id_findings(labels.items("a. cat\nd. dog"), labels)} == {
        "missing tags": ("B",),
        "invented tags": ("D",),
    }


@pytest.mark.parametrize("names", [("x1",), ("a", "1"), ("a", "B"), ("01",), ("²",), ("一",), ("abc",)])
def test_labels_that_no_answer_could_be_read_back_for_are_refused(names):
    with pytest.raises(Rejected, match=r"cannot be read back.*use marks labelled 1, 2, 3 or a, b, c"):
        Labels.of(names)


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("The sheep tagged 4 is left of the one tagged 12.", ["4", "12"]),
        ("Tags 2, 5 and 7 are on dogs; tag 2 too.", ["2", "5", "7"]),
        ("the person tagged with number 1, and [3]", ["1", "3"]),
        ("Three tagged people, 4 of them seated at 10:30, tags 20%", []),
        ("Only tag #3 and tags 4, 5, and 6.", ["3", "4", "5", "6"]),
    ],
)
def test_cited_tags_are_found_and_plain_numbers_are_not(text, cited):
    assert THREE.cited(text) == cited


def test_cited_letters():
    assert Labels.of("abc").cited("Tags a and c do; the dog tagged B is on it, tag z is not.") == ["a", "c", "b", "z"]


def test_items_that_refer_to_other_tags():
    texts = {"1": "the same tree as tag 3", "2": "the dog behind tag 9", "3": "a tree"}
    assert [(f.kind, f.labels) for f in reference_findings(texts, THREE)] == [("refers to invented tags", ("2",))]
    assert mention_findings(texts, THREE)[0].labels == ("1", "2")
    assert uniqueness_findings({"1": "The red cups", "2": "a red cup", "3": "a dog"})[0].labels == ("1", "2")


def test_agreement_counts_names_last_words_and_synonyms():
    record = boxes(["person", "dining table", "tv/monitor", "dog", None]).record
    texts = {"1": "A man in red", "2": "the table", "3": "a television", "4": "a cat", "5": "anything"}
    names = {mark.label: mark.category for mark in record.marks}
    assert agreement(names, texts) == (3, 4)
    assert agreement(names, {"4": "dogs"}) == (1, 1)
    limits = ListLimits(min_agreement=0.8)
    names = {mark.label: mark.category for mark in record.marks}
    (finding,) = item_findings(texts, names, limits)
    assert finding.kind == "disagrees with the annotation" and finding.labels == ("4",)
    assert not names_match("cat", "a catalogue") and are_synonyms("man", "person") and not are_synonyms("man", "woman")


TALK = "Q: Which tag is on the dog?\nA: Tag 2.\nQ: And the cat?\nA: The cat is tagged 1."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TALK, []),
        ("Sure!\n\n**Q1:** Which tag is on the dog?\n**A1:** Tag 2.\n\nQuestion: And the cat?\nAnswer: Tag 1.", []),
        (TALK + "\n\nLet me know if you need more.", []),
        ("Which tag is on the dog? Tag 2.", ["no alternating questions and answers"]),
        (TALK + "\nQ: And?", ["no alternating questions and answers"]),
        ("Q: Which tag is on the dog?\nA: Tag 2.", ["too few questions"]),
        (TALK + "\nQ: What is 3?\nA: A cup.\nQ: Is it red?\nA: No.", ["too many questions"]),
        (TALK.replace("Tag 2", "Tag 8"), ["invented tags"]),
        ("Q: Is it a dog?\nA: Yes.\nQ: Is it big?\nA: No.", ["no tag is cited"]),
        (TALK.replace("And the cat", "Which tag is on the dog"), ["asks the same twice"]),
        (TALK.replace("Tag 2.", ""), ["empty"]),
        (TALK.replace("And the cat?", ""), ["empty"]),
        (TALK.replace("Tag", "Perhaps tag").replace("The cat is", "Possibly it is"), ["mostly unsure"]),
        ("\n".join(f"Q: Is that {n}?\nA: Tag 2." for n in "abcd"), ["too many questions", "repetitive"]),
    ],
)
def test_every_fault_of_a_conversation_is_named(text, expected):
    assert kinds(dialogue_findings(parse_dialogue(text), THREE, (2, 3), ListLimits())) == expected


def test_a_conversation_is_read_as_it_was_written():
    exchanges = [Exchange("Is tag 1 red?", "Yes, it is."), Exchange("And tag 2: is it?", "No. It is blue.")]
    assert parse_dialogue(dialogue_text(exchanges)) == exchanges


def test_a_rejection_counts_under_the_first_fault_and_keeps_what_was_said():
    findings = id_findings(THREE.items("1. a\n9. b"), THREE)
    error = reject(findings, "first", "second")
    assert error.kind == "missing tags" and str(error) == "missing tags: 2, 3; invented tags: 9"
    assert error.answer.startswith("first") and error.answer.endswith("second")


@pytest.mark.parametrize(
    ("key", "value"), [("max_words", 0), ("max_hedged", 1.5), ("max_identical", -1), ("min_agreement", 2)]
)
def test_limits_out_of_range_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key}={value}"):
        ListLimits(**{key: value})

import pytest

from data_gen.english import article, listed, noun, number_word, ordinal, sentence, spoken


@pytest.mark.parametrize(
    ("name", "indefinite", "plural"),
    [
        ("person", "a person", "people"),
        ("apple", "an apple", "apples"),
        ("sheep", "a sheep", "sheep"),
        ("bus", "a bus", "buses"),
        ("wine glass", "a wine glass", "wine glasses"),
        ("couch", "a couch", "couches"),
        ("knife", "a knife", "knives"),
        ("teddy bear", "a teddy bear", "teddy bears"),
        ("cherry", "a cherry", "cherries"),
        ("toy", "a toy", "toys"),
        ("snowman", "a snowman", "snowmen"),
        ("human", "a human", "humans"),
        ("slice of cake", "a slice of cake", "slices of cake"),
        ("a dining_table", "a dining table", "dining tables"),
        ("Human face", "a human face", "human faces"),
        ("tvmonitor", "a screen", "screens"),
        ("umbrella", "an umbrella", "umbrellas"),
        ("uniform", "a uniform", "uniforms"),
        ("unidentified object", "an unidentified object", "unidentified objects"),
        ("hourglass", "an hourglass", "hourglasses"),
        ("euro coin", "a euro coin", "euro coins"),
        ("one-way sign", "a one-way sign", "one-way signs"),
        ("TV", "a TV", "TVs"),
        ("SUV", "an SUV", "SUVs"),
        ("X-ray", "an X-ray", "X-rays"),
        ("café", "a café", "cafés"),
        ("ottoman", "an ottoman", "ottomans"),
        ("pocketknife", "a pocketknife", "pocketknives"),
        ("utensil", "a utensil", "utensils"),
        ("urinal", "a urinal", "urinals"),
        ("urn", "an urn", "urns"),
    ],
)
def test_countable_names(name, indefinite, plural):
    said = noun(name)
    assert said is not None and said.is_countable and (said.indefinite, said.plural) == (indefinite, plural)
    assert not said.is_plural


@pytest.mark.parametrize(
    ("name", "indefinite", "is_plural"),
    [
        ("skis", "a pair of skis", True),
        ("scissors", "a pair of scissors", True),
        ("grass-merged", "grass", False),
        ("tall grass", "tall grass", False),
        ("sky-other-merged", "the sky", False),
        ("floor-wood", "the wooden floor", False),
        ("boats", "boats", True),
        ("people", "people", True),
        ("cattle", "cattle", True),
    ],
)
def test_names_that_are_not_counted(name, indefinite, is_plural):
    said = noun(name)
    assert said is not None and not said.is_countable and (said.indefinite, said.is_plural) == (indefinite, is_plural)
    assert said.plural == said.text


@pytest.mark.parametrize(
    "name", ["", None, "person, standing", "a | b", "狗", "bus 42", "man on a horse", "of", "b c d e f"]
)
def test_what_is_no_plain_name_is_not_inflected(name):
    assert noun(name) is None


def test_names_are_said_in_lower_case_unless_they_are_proper():
    names = ("Dog", "Eiffel Tower", "TV", "the Dog house", "door-stuff", "wall-other-merged", "Christmas tree")
    said = ["dog", "Eiffel Tower", "TV", "dog house", "door", "wall", "Christmas tree"]
    assert [spoken(name) for name in names] == said


def test_numbers_lists_and_sentences():
    assert [number_word(n) for n in (0, 1, 12, 13)] == ["no", "one", "twelve", "13"]
    assert [ordinal(n) for n in (1, 2, 10, 11, 12, 13, 21, 22, 23, 112)] == [
        *("first", "second", "tenth", "11th", "12th", "13th", "21st", "22nd", "23rd", "112th")
    ]
    assert [listed(["2"]), listed(["2", "5"]), listed(["2", "5", "7"])] == ["2", "2 and 5", "2, 5 and 7"]
    assert [sentence(text) for text in ("it is", "Is it?", "a b.")] == ["It is.", "Is it?", "A b."]
    assert article("hour") == "an" and article("horse") == "a"

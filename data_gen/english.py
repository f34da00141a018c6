"""Enough English to say class names in sentences: plurals, articles, numbers in words.

Class names are written for tables ("dining_table", "wall-other-merged", "Human face"). `Noun` says such a name aloud.
A name that is no plain noun phrase ("person, standing", "a | b", Chinese) is not inflected: what cannot be said
correctly is not said.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from llava_som.marks.names import spelled_out


def words(text: str) -> frozenset[str]:
    """The words of a text, for tables."""
    return frozenset(text.split())


# First words that keep the capital they are given; others are written so only because a table begins them that way.
_PROPER = words("""
    african american asian australian brazilian british canadian chinese christmas dutch easter english european french
    german greek halloween indian irish italian japanese korean mexican persian russian scottish siamese spanish swedish
    swiss turkish
""")
_MASS = words("""
    bread broccoli cardboard clothing cutlery dirt equipment fabric foliage food fruit furniture fur glassware grass
    gravel hair ice jewelry lettuce luggage meat metal milk money mud paper pasta pavement plastic rice rubble salad
    sand scenery smoke snow soil soup toast traffic vegetation water wood
""")
_ONE_OF_A_KIND = frozenset({"background", "ceiling", "floor", "ground", "sea", "sky"})  # "the sky", never "a sky"
_PAIRS = words("""
    binoculars glasses goggles headphones jeans leggings pants pliers scissors shorts skis sunglasses tights tongs
    trousers tweezers
""")
_PLURALS = {
    **{"person": "people", "man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth"},
    **{"mouse": "mice", "goose": "geese", "ox": "oxen", "sheep": "sheep", "deer": "deer", "fish": "fish"},
    **{"moose": "moose", "bison": "bison", "aircraft": "aircraft", "series": "series", "knife": "knives"},
    **{"life": "lives", "wife": "wives", "shelf": "shelves", "leaf": "leaves", "wolf": "wolves", "calf": "calves"},
    **{"half": "halves", "loaf": "loaves", "scarf": "scarves", "thief": "thieves", "hoof": "hooves", "elf": "elves"},
    **{"potato": "potatoes", "tomato": "tomatoes", "hero": "heroes", "mango": "mangoes", "buffalo": "buffaloes"},
    **{"volcano": "volcanoes", "cactus": "cacti", "quiz": "quizzes", "bus": "buses", "human": "humans"},
    **{"ottoman": "ottomans", "bookshelf": "bookshelves", "pocketknife": "pocketknives", "penknife": "penknives"},
}
_PLURAL_FORMS = frozenset(_PLURALS.values()) - frozenset(_PLURALS) | {"cattle", "clothes", "police", "dice"}
_SINGULAR_IN_S = words("atlas bias canvas christmas gas lens news")
_NOT_IN_A_PLAIN_NAME = words("""
    a an and are as at behind beside by for from has holding in is near next no not on or over standing sitting that
    the to under wearing with without
""")
_VOWEL_SOUND = re.compile(
    r"(?!uni(?![dmn])|us[aeu]|ut[ei]|uri|uku|eu|ewe|one\b|once)[aeiou]|heir|honest|hono|hour", re.IGNORECASE
)
_LONGEST_CAPTION = 60  # characters
_LETTERS_WITH_AN = frozenset("AEFHILMNORSX")
_ONES = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Noun:
    """A class name that can be said: "dog", "dining table", "slice of cake".

    Attributes:
        text: the name as it stands in a sentence.
    """

    text: str

    @property
    def is_pair(self) -> bool:
        """Two-part things that are grammatically many: scissors, skis."""
        return self.head.lower() in _PAIRS

    @property
    def is_mass(self) -> bool:
        """Not counted: grass, water."""
        return self.head.lower() in _MASS

    @property
    def is_only_one(self) -> bool:
        """Spoken of as the only one there is: the sky."""
        return self.head.lower() in _ONE_OF_A_KIND

    @property
    def is_plural(self) -> bool:
        """Takes "are": skis, boats, people."""
        head = self.head.lower()
        if head in _PLURAL_FORMS or self.is_pair:
            return True
        is_singular = head in _SINGULAR_IN_S or head in _PLURALS or head.endswith(("ss", "us", "is"))
        return len(head) > 3 and head.endswith("s") and not is_singular

    @property
    def is_countable(self) -> bool:
        """Whether "how many" can be asked: a singular that has a plural."""
        return self.is_one_of_several

    @property
    def is_one_of_several(self) -> bool:
        """Whether "the leftmost" of them is one thing: a dog, not grass or boats."""
        return not (self.is_mass or self.is_only_one or self.is_plural)

    @property
    def indefinite(self) -> str:
        """As something new: "a dog", "an apple", "a pair of skis", "grass", "boats", "the sky"."""
        if self.is_only_one:
            return f"the {self.text}"
        if self.is_pair:
            return f"a pair of {self.text}"
        if self.is_mass or self.is_plural:
            return self.text
        return f"{article(self.text)} {self.text}"

    @property
    def plural(self) -> str:
        """Several of them: "dogs", "people", "slices of cake"."""
        if not self.is_countable:
            return self.text
        head, of, rest = self.text.partition(" of ")
        before, space, last = head.rpartition(" ")
        return f"{before}{space}{_plural_word(last)}{of}{rest}"

    @property
    def head(self) -> str:
        """The word that says what it is: "table" of a dining table, "slice" of a slice of cake."""
        return self.text.partition(" of ")[0].split()[-1]


@dataclass(frozen=True)
class Caption(Noun):
    """The text on an element of a screen, which is quoted and never inflected: element "Sign in"."""

    @property
    def is_countable(self) -> bool:
        """There may be several, but nobody speaks of "elements Sign in"."""
        return False

    @property
    def is_plural(self) -> bool:
        """The element "Settings" is one."""
        return False

    @property
    def indefinite(self) -> str:
        """The element "Sign in"."""
        return f"the {self.text}"

    @property
    def head(self) -> str:
        """What it is called, whatever it says."""
        return "element"


def caption(name: str | None) -> Caption | None:
    """The text of a screen's element as a `Caption`; None where it is too long to be quoted, or spoils the sentence."""
    text = " ".join((name or "").split())
    is_plain = re.search(r"\w", text) and not re.search(r"[\"“”<>]|\b(?:tag|mark|label)", text, re.IGNORECASE)
    return Caption(f'element "{text}"') if is_plain and len(text) <= _LONGEST_CAPTION else None


def noun(name: str | None) -> Noun | None:
    """A class name as a `Noun`; None where it is absent or is no plain English noun phrase."""
    text = spoken(name or "")
    parts = text.split()
    if not 1 <= len(parts) <= 4 or parts[0] == "of" or parts[-1] == "of":
        return None
    if any(part.lower() in _NOT_IN_A_PLAIN_NAME for part in parts):
        return None
    return Noun(text) if all(_is_latin_word(part) for part in parts) else None


def spoken(name: str) -> str:
    """A class name as it is said in the middle of a sentence: spelled out, no article, in lower case."""
    text = re.sub(r"^(?:an?|the) (?=\S)", "", spelled_out(name), flags=re.IGNORECASE)
    first, *rest = text.split(" ")
    is_lower = first.lower() not in _PROPER and all(word == word.lower() for word in rest)
    if first.istitle() and is_lower:  # "Human face", but not "Eiffel Tower", "French fries" or "TV"
        text = " ".join([first.lower(), *rest])
    return text


def article(phrase: str) -> str:
    """The article "a" or "an", by the sound of the first word; one in capitals is spelt out: an SUV, a TV, an X-ray."""
    first = re.split(r"[\s-]", phrase.strip(), maxsplit=1)[0]
    if first.isupper():
        return "an" if first[0] in _LETTERS_WITH_AN else "a"
    return "an" if _VOWEL_SOUND.match(first) else "a"


def number_word(count: int) -> str:
    """A count in words up to "twelve", then in digits; 0 is "no"."""
    return _ONES[count] if count < len(_ONES) else str(count)


def ordinal(place: int) -> str:
    """A place in words up to "tenth", then in digits: "11th", "21st"."""
    if place <= len(_ORDINALS):
        return _ORDINALS[place - 1]
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def listed(texts: Sequence[str]) -> str:
    """As in a sentence: "2", "2 and 5", "2, 5 and 7"."""
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def sentence(text: str) -> str:
    """With a capital and an end: what is already so stays so."""
    text = text.strip()
    ended = text if text.endswith((".", "?", "!")) else f"{text}."
    return ended[:1].upper() + ended[1:]


def _plural_word(word: str) -> str:
    lower = word.lower()
    if lower in _PLURALS:
        return word[:1] + _PLURALS[lower][1:]
    if lower.endswith("man"):  # policeman, snowwoman
        return word[:-2] + "en"
    if re.search(r"(?:s|x|z|ch|sh)$", lower):
        return word + "es"
    if re.search(r"[^aeiou]y$", lower):
        return word[:-1] + "ies"
    return word + "s"


def _is_latin_word(word: str) -> bool:
    letters = [character for character in word if character not in "-'’"]
    return bool(letters) and all(
        character.isalpha() and unicodedata.name(character, "").startswith("LATIN") for character in letters
    )

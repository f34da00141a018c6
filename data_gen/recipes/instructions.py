"""What people ask when they want marks listed: our own sentences, in the two families that SoM-LLaVA's data has.

One is drawn for each image, so a model learns the task and not a wording. Two things vary: what the picture is said to
carry (a number on every object, or on some things and parts of the background) and the form (question, order, request).
A sentence is drawn only where it is true: one about tags at the centres of things not where tags stand beside them, one
about every object only in pictures that show nothing but their regions, and there not where the sidecar knows of one
without a tag. Letters and screenshots have their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from data_gen.geometry import is_screen, tags_are_on_things

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

_CENTRES = (
    "Every object in this picture has a number drawn at its centre. Name the objects in the order of their numbers.",
    "I put a number on the centre of every object. Please go through the numbers and say what each object is.",
    "All the objects have been numbered at their centres. List them in ascending order, one per line.",
    "A numeric ID sits at the middle of each object. Enumerate what the IDs stand for, starting with 1.",
    "Could you read off the numbers placed on the objects one after another and tell me what each object is?",
    "You see one number per object, drawn at its centre. Give me the full list of names in numeric order.",
    "Please write a numbered list of all objects, using the ID that is printed in the middle of each one.",
    "What does every number in this image label? The numbers are placed at the centres of the objects.",
)
EVERY_OBJECT = (
    *_CENTRES,
    "Each object here has a numeric ID of its own. What are they, from the lowest ID to the highest?",
    "Starting from 1, which object belongs to each of the numbers in the picture?",
    "Each thing in the image was given an ID. Count up through the IDs and name the thing that has it.",
    "Work through the objects by their numbers and state the name of each, leaving none out.",
    "The objects are numbered. Would you kindly identify all of them, from the first number to the last?",
    "For each numeric ID of an object, write the ID and then what the object is.",
)
_UNDER_TAGS = (
    "Something lies under each of these numbered tags. What is it? Reply with a numbered list.",
    "Look at the places in this image that wear a tag and identify what is under every tag.",
    "Go through the tags in increasing order and describe briefly what each of them is placed on.",
    "Please say what every tag is on, be it an object or a piece of the background.",
    "Read the tags from 1 upwards. For each one, what object or background element does it lie on?",
    "Would you list the marked items for me? Each has a number on it; keep to the order of the numbers.",
    "Take every tag in turn and say what lies directly beneath it.",
    "Give the name of what you see under each numbered label, in order.",
    "Would you please write one line for each numbered tag that says what it has been put on?",
)
SOME_REGIONS = (
    *_UNDER_TAGS,
    "Parts of this image have been given numbers. Beginning with the lowest, what has been numbered?",
    "Look at the tagged places in this image and itemise them: the tag number first, then what it marks.",
    "Please list what each tag in the picture points out, whether it is an object or a piece of background.",
    "Things in this image are tagged with numbers. What are they, one by one?",
    "Catalogue the tagged regions of this image. Use the tag numbers as your list numbers.",
    "What do the numbered tags on this image stand for? Cover all of them in order.",
    "Numeric tags mark certain things in this picture. Tell me what each tag identifies.",
    "Can you name, tag by tag, the things that have been marked with a number here?",
    "I tagged parts of this picture with numbers. Please say what every tag stands for.",
    "Make an inventory of the tagged contents of this image, ordered by tag.",
    "Several regions in the picture are marked by numbers. Write down what each region shows.",
    "Numbers label some of the things in this view. Match every number to its content.",
    "State what each numeric mark in this image refers to, without skipping any.",
    "The image has numbers for selected things and surfaces. Which thing or surface goes with which number?",
    "Identify all numbered regions, objects and background alike, as a list that follows the numbering.",
    "Tags with numbers are scattered over this image. What is tagged by each?",
    "Please explain the numbering in this picture: for every tag, name the object or the area it belongs to.",
    "One after another, what is marked with each of the numbers you can see?",
    "Describe the tagged elements in this image item by item; some may belong to the background.",
    "Use the numeric tags as a guide and list everything they mark, in the order of the tags.",
    "The numbers in this image each mark something. Work out what, and report it in numerical order.",
    "Decode the numbers on this picture for me: what does each one refer to?",
    "Give a short name to whatever each tag marks, following the numbers upwards.",
    "I only care about what has been tagged. Name it all, tag after tag.",
    "With the lowest number first, tell me what each of the marks singles out.",
    "Make me a key to the numbers in this image: each number together with what it marks.",
    "Which things were picked out by the numbers here? Go through them in order.",
)

_LETTER_CENTRES = (
    "Every object in this picture has a letter drawn at its centre. Name the objects in the order of their letters.",
    "I put a letter on the centre of every object. Please go through the letters and say what each object is.",
    "You see one letter per object, drawn at its centre. Give me the full list of names in alphabetical order.",
    "What does every letter in this image label? The letters are placed at the centres of the objects.",
    "Could you read off the letters placed on the objects one after another and tell me what each object is?",
)
EVERY_OBJECT_LETTERS = (
    *_LETTER_CENTRES,
    "Each object here has a letter of its own. What are they, from the first letter to the last?",
    "All the objects are lettered. List them in alphabetical order.",
    "Work through the objects by their letters and state the name of each, leaving none out.",
)
_UNDER_LETTERS = (
    "Look at the places in this image that wear a tag with a letter and identify what is under every tag.",
    "Go through the tags in alphabetical order and describe briefly what each of them is placed on.",
    "Please say what every lettered tag is on, be it an object or a piece of the background.",
)
SOME_REGIONS_LETTERS = (
    *_UNDER_LETTERS,
    "Parts of this image have been given letters. Going through the alphabet, what has been lettered?",
    "Look at the tagged places in this image and itemise them: the letter first, then what it marks.",
    "Please list what each lettered tag in the picture points out, whether it is an object or a piece of background.",
    "Things in this image are tagged with letters. What are they, one by one?",
    "Can you name, tag by tag, the things that have been marked with a letter here?",
    "Several regions in the picture are marked by letters. Say what each region shows.",
    "State what each letter drawn on this image refers to, without skipping any.",
    "One after another, what is marked with each of the letters you can see?",
    "Letters label some of the things in this view. Match every letter to its content.",
    "With the first letter first, tell me what each of the marks singles out.",
    "Make me a key to the letters in this image: each letter together with what it marks.",
    "I only care about what has been lettered. Name it all, letter after letter.",
)
SCREEN = (
    "Elements of this screen are tagged with {word}s. List what each of them says or shows, in order.",
    "Go through the {word}s on this screenshot and name the element that each one marks.",
    "What does each tagged element of this screen say or stand for? Keep to the order of the {word}s.",
    "Read out the tagged elements of the interface one by one, each behind its {word}.",
    "For every tag on this screenshot, give its {word} and the element it belongs to.",
    "Please list the elements that have been tagged here, from the first {word} to the last.",
    "Which element goes with each {word} on this screen? Leave none out.",
    "Make an inventory of the tagged parts of this interface, ordered by {word}.",
)

FAMILIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("every_object", "number"): EVERY_OBJECT,
    ("some_regions", "number"): SOME_REGIONS,
    ("every_object", "letter"): EVERY_OBJECT_LETTERS,
    ("some_regions", "letter"): SOME_REGIONS_LETTERS,
    **{("screen", word): tuple(text.format(word=word) for text in SCREEN) for word in ("number", "letter")},
}
ONLY_REGIONS = frozenset({"scenes"})  # sources whose pictures show their regions and nothing else
_ON_THINGS = frozenset((*_CENTRES, *_UNDER_TAGS, *_LETTER_CENTRES, *_UNDER_LETTERS))
_WANTS_LINES = re.compile(r"\b(?:lines?|numbered list|list numbers|write down)\b", re.IGNORECASE)

# Descriptions that refer: {the} is one that stands inside a sentence ("the leftmost dog"), {description} any.
DESCRIBE_TAG = (
    "Describe what is tagged {tag} so that it cannot be mistaken for anything else.",
    "How would you point out what is tagged {tag} to a person who cannot see the tags?",
    "Give a short description that fits only what tag {tag} marks.",
    "What carries tag {tag}? Say it so that it could be found without the tag.",
    "Put tag {tag} into words: what exactly does it mark?",
    "If the tags were gone, how would you refer to what tag {tag} marks?",
)
DESCRIBE_TAG_ANSWERS = ("{the}", "Tag {tag} stands for {the}", "Tag {tag} marks {the}")
FIND_THE = (
    "Which tag belongs to {the}?",
    "What is the tag of {the}?",
    "I am looking for {the}. Which tag is it?",
    "Find {the} in the picture and give me the tag.",
    "Tell me which tag marks {the}.",
    "Which tag do I need if I mean {the}?",
)
FIND_THE_ANSWERS = ("Tag {tag}", "It is tag {tag}", "Tag {tag} marks {the}", "The tag is {tag}")
FIND_DESCRIBED = (
    "Which tag fits this description: {description}?",
    "Which tag marks the following? {description}",
    "Find what is described here and give me its tag: {description}",
)
FIND_DESCRIBED_ANSWERS = ("Tag {tag}", "It is tag {tag}", "Tag {tag} fits")


Family = Literal["any", "every_object", "some_regions"]


def instructions(family: Family, tags: str, style: str, record: MarkRecord) -> Sequence[str]:
    """The sentences of a family that are true of a marked picture.

    Args:
        family: "any" has sentences about every object only where all that the picture shows is tagged.
        tags: what they consist of, "number" or "letter".
        style: "sentence" leaves out the sentences that ask for lines.
        record: the sidecar of the picture.
    """
    families: tuple[str, ...] = ("every_object", "some_regions") if family == "any" else (family,)
    if family == "any" and is_screen(record):
        families = ("screen",)
    elif family == "any" and not shows_tagged_things_only(record):
        families = ("some_regions",)
    sentences = [sentence for name in families for sentence in FAMILIES[name, tags]]
    return [
        text
        for text in sentences
        if (style == "lines" or not _WANTS_LINES.search(text))
        and (text not in _ON_THINGS or tags_are_on_things(record))
    ]


def shows_tagged_things_only(record: MarkRecord) -> bool:
    """Whether every object in the picture has a tag. No annotation of a photo is known to name all that it shows."""
    has_no_others = record.origin.get("name") in ONLY_REGIONS
    return has_no_others and not any(skipped.area_visible for skipped in record.skipped)

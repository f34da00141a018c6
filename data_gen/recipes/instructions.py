"""What people ask when they want marks listed: our own sentences, in the two families that SoM-LLaVA's data has.

One is drawn for each image, so a model learns the task and not a wording. Two things vary: what the picture is said to
carry (a number on every object, or on some objects and parts of the background) and the form (question, order,
request). Tags that are letters have sentences of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

EVERY_OBJECT = (
    "Every object in this picture has a number drawn at its centre. Name the objects in the order of their numbers.",
    "Each object here carries a numeric ID in its middle. What are they, from the lowest ID to the highest?",
    "I put a number on the centre of every object. Please go through the numbers and say what each object is.",
    "All the objects have been numbered at their centres. List them in ascending order, one per line.",
    "A bright numeric ID sits at the middle of each object. Enumerate what the IDs stand for, starting with 1.",
    "Could you read off the numbers placed on the objects one after another and tell me what each object is?",
    "You see one number per object, drawn at its centre. Give me the full list of names in numeric order.",
    "Starting from 1, which object belongs to each of the numbers drawn at the objects' centres?",
    "Please write a numbered list of all objects, using the ID that is printed in the middle of each one.",
    "Each thing in the image was given an ID at its centre. Count up through the IDs and name the thing behind each.",
    "What does every number in this image label? The numbers are placed at the centres of the objects.",
    "Work through the objects by their centre numbers and state the name of each, leaving none out.",
    "The objects are numbered in the middle, from small to large. Would you kindly identify all of them in that order?",
    "For each numeric ID at the centre of an object, write the ID and then what the object is.",
)

SOME_REGIONS = (
    "Parts of this photo have been given numbers. Beginning with the smallest, what has been numbered?",
    "Something lies under each of these numbered tags. What is it? Reply with a numbered list.",
    "Some objects and some parts of the background wear numeric tags. Identify what is under every tag.",
    "Look at the tagged places in this image and itemise them: the tag number first, then what it marks.",
    "Please list what each tag in the picture points out, whether it is an object or a piece of background.",
    "A few items and background areas are tagged with numbers. What are they, one by one?",
    "Go through the tags in increasing order and describe briefly what each of them is placed on.",
    "Catalogue the tagged regions of this image. Use the tag numbers as your list numbers.",
    "What do the numbered tags on this image stand for? Cover all of them in order.",
    "There are numeric tags on certain objects and background regions. Tell me what each tag identifies.",
    "Can you name, tag by tag, the things that have been marked with a number here?",
    "I tagged parts of this scene with numbers, including some of the background. Please say what every tag is on.",
    "Make an inventory of the tagged contents of this image, ordered by tag.",
    "Read the tags from 1 upwards. For each one, what object or background element does it lie on?",
    "Several regions in the picture are marked by small numbers. Write down what each region shows.",
    "Would you list the marked items for me? Each has a number on it; keep to the order of the numbers.",
    "Numbers label some foreground objects and some surroundings in this view. Match every number to its content.",
    "State what each numeric mark in this image refers to, without skipping any.",
    "The photo has numbers on selected things and surfaces. Which thing or surface goes with which number?",
    "Identify all numbered regions, both objects and background, as a list that follows the numbering.",
    "Small tags with numbers are scattered over this image. What is tagged by each?",
    "Please explain the numbering in this picture: for every tag, name the object or the area it belongs to.",
    "One after another, what is marked with each of the numbers you can see?",
    "Take every tag in turn and say what lies directly beneath it.",
    "Describe the tagged elements in this image item by item; some may belong to the background.",
    "Parts of this picture carry numbered labels. Give the name of the part under each label, in order.",
    "Tell me which objects or bits of scenery were tagged, following the tags from first to last.",
    "Use the numeric tags as a guide and list everything they mark, objects and background alike.",
    "Would you please write one line for each numbered tag that says what it has been put on?",
    "The numbers in this image each mark something. Work out what, and report it in numerical order.",
)

EVERY_OBJECT_LETTERS = (
    "Every object in this picture has a letter drawn at its centre. Name the objects in the order of their letters.",
    "Each object here carries a letter in its middle. What are they, from the first letter to the last?",
    "I put a letter on the centre of every object. Please go through the letters and say what each object is.",
    "All the objects are lettered at their centres. List them in alphabetical order.",
    "You see one letter per object, drawn at its centre. Give me the full list of names in alphabetical order.",
    "What does every letter in this image label? The letters are placed at the centres of the objects.",
    "Could you read off the letters placed on the objects one after another and tell me what each object is?",
    "Work through the objects by the letters at their centres and state the name of each, leaving none out.",
)

SOME_REGIONS_LETTERS = (
    "Parts of this photo have been given letters. Going through the alphabet, what has been lettered?",
    "Some objects and some parts of the background wear tags with a letter. Identify what is under every tag.",
    "Look at the tagged places in this image and itemise them: the letter first, then what it marks.",
    "Please list what each lettered tag in the picture points out, whether it is an object or a piece of background.",
    "A few items and background areas are tagged with letters. What are they, one by one?",
    "Go through the tags in alphabetical order and describe briefly what each of them is placed on.",
    "Can you name, tag by tag, the things that have been marked with a letter here?",
    "I tagged parts of this scene with letters, including some of the background. Please say what every tag is on.",
    "Several regions in the picture are marked by small letters. Say what each region shows.",
    "State what each letter drawn on this image refers to, without skipping any.",
    "One after another, what is marked with each of the letters you can see?",
    "Letters label some foreground objects and some surroundings in this view. Match every letter to its content.",
)

FAMILIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("every_object", "number"): EVERY_OBJECT,
    ("some_regions", "number"): SOME_REGIONS,
    ("every_object", "letter"): EVERY_OBJECT_LETTERS,
    ("some_regions", "letter"): SOME_REGIONS_LETTERS,
}
_WANTS_LINES = re.compile(r"\b(?:lines?|numbered list|list numbers|write down)\b")

# Descriptions that refer: {the} is one that stands inside a sentence ("the leftmost dog"), {description} any.
DESCRIBE_TAG = (
    "Describe the thing tagged {tag} so that it cannot be mistaken for anything else.",
    "How would you point out the thing tagged {tag} to a person who cannot see the tags?",
    "Give a short description that fits only what is under tag {tag}.",
    "Which thing carries tag {tag}? Say it so that it could be found without the tag.",
    "Put tag {tag} into words: what exactly does it mark?",
    "If the tags were gone, how would you refer to what tag {tag} is on?",
)
DESCRIBE_TAG_ANSWERS = ("{the}", "Tag {tag} is on {the}", "Tag {tag} marks {the}")
FIND_THE = (
    "Which tag is on {the}?",
    "What is the tag of {the}?",
    "I am looking for {the}. Which tag is it?",
    "Find {the} in the picture and give me the tag.",
    "Tell me which tag marks {the}.",
    "Which tag do I need if I mean {the}?",
)
FIND_THE_ANSWERS = ("Tag {tag}", "It is tag {tag}", "Tag {tag} is on {the}", "The tag is {tag}")
FIND_DESCRIBED = (
    "Which tag fits this description: {description}?",
    "Which tag marks the following? {description}",
    "Find what is described here and give me its tag: {description}",
)
FIND_DESCRIBED_ANSWERS = ("Tag {tag}", "It is tag {tag}", "Tag {tag} fits")


def instructions(
    family: Literal["any", "every_object", "some_regions"], tags: str, style: str = "lines"
) -> Sequence[str]:
    """The sentences of a family for tags that are "number" or "letter", without those that another `style` breaks."""
    families = ("every_object", "some_regions") if family == "any" else (family,)
    sentences = [sentence for name in families for sentence in FAMILIES[name, tags]]
    return [text for text in sentences if style == "lines" or not _WANTS_LINES.search(text)]

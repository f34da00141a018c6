"""The wordings of rule-based questions and answers, in our own words; which of them is used is drawn for each turn.

Placeholders: {a} and {b} mention a thing with its tag ("the dog tagged 3"), {tag} is a bare label, {thing} is "element"
on screens, and {is}, {does} agree with {a}. Tags "mark" things and are not "on" them: some stand beside their things.
"""

from __future__ import annotations

from data_gen.geometry import Direction

TOWARDS: dict[Direction, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
SUPERLATIVE: dict[Direction, str] = {
    "left": "furthest to the left",
    "right": "furthest to the right",
    "above": "highest up",
    "below": "furthest down",
}
COMPARATIVE: dict[Direction, str] = {
    "left": "further to the left",
    "right": "further to the right",
    "above": "higher up",
    "below": "further down",
}

COUNT_ALL = (
    "How many tags are there in the picture?",
    "How many {thing}s have been tagged?",
    "What is the total number of tags?",
    "Can you count the tags for me?",
)
COUNT_ALL_ANSWER = ("There are {number}: tags {labels}.", "I count {number} of them, tags {labels}.")
RANGE_ANSWER = ("There are {number}: tags {first} to {last}.", "I count {number}, from tag {first} to tag {last}.")
COUNT = (
    "How many {plural} are tagged?",
    "How many of the tags mark {plural}?",
    "Count the {plural} that carry a tag, please.",
    "What is the number of tagged {plural}?",
    "Among the tagged {thing}s, how many are {plural}?",
)
COUNT_ANSWER = (
    "{Number} {plural} are tagged: {tags}.",
    "{Number}. The {plural} have {tags}.",
    "There are {number} tagged {plural}, with {tags}.",
)
COUNT_ONE_ANSWER = ("Only one: the {noun} tagged {label}.", "Just one {noun} is tagged: it has tag {label}.")

IS_TOWARDS = (
    "{Is} {a} {towards} {b}?",
    "In the picture, {is} {a} {towards} {b}?",
    "Would you say that {a} {is} {towards} {b}?",
)
WHERE = (
    "Where {is} {a} in relation to {b}?",
    "Looking at the picture, where {is} {a} compared with {b}?",
    "How {is} {a} placed relative to {b}?",
)
WHICH_OF_TWO = (
    "Which is {comparative}, {a} or {b}?",
    "Of {a} and {b}, which is {comparative} in the picture?",
    "Compare {a} with {b}: which of them is {comparative}?",
)
FARTHEST = (
    "Which of the tagged {plural} is {superlative}?",
    "Which tagged {noun} is {superlative} in the picture?",
    "Looking only at the tagged {plural}, which one is {superlative}?",
)
FARTHEST_OF_ALL = (
    "Which tagged {thing} is {superlative}?",
    "Of everything that is tagged, what is {superlative} in the picture?",
    "Which of the tags marks the {thing} that is {superlative}?",
)
NEAREST = (
    "Which tagged {thing} is nearest to {b}?",
    "Among the tagged {thing}s, which one is closest to {b} in the picture?",
    "What is the closest tagged neighbour of {b} in the picture?",
)
NEAREST_OF = (
    "Which of the tagged {plural} is nearest to {b}?",
    "Which tagged {noun} is closest to {b} in the picture?",
)
NEAREST_ANSWER = ("{A} {is} the closest.", "The closest is {a}.", "{A} {is} nearest to {b}.")

LARGER = (
    "Which takes up more of the picture, {a} or {b}?",
    "Of {a} and {b}, which looks bigger in the picture?",
    "Compare {a} with {b}. Which one covers the larger part of the picture?",
)
LARGER_ANSWER = ("{A} {covers} the larger part of the picture.", "{A} {takes} up more room than {b}.")
LARGEST = (
    "Which of the tagged {plural} takes up the most room in the picture?",
    "Which tagged {noun} covers the largest part of the picture?",
    "Which tagged {noun} looks the biggest in the picture?",
)
LARGEST_ANSWER = ("{A} does.", "It is {a}.", "That is {a}.")

COLOUR = (
    "What colour {is} {a}?",
    "Which colour {does} {a} have?",
    "Can you tell me the colour of {a}?",
    "How would you describe the colour of {a}?",
)
COLOUR_ANSWER = ("{A} {is} {colour}.", "{Again} {is} {colour}.")
SAME_COLOUR = (
    "{Is} {a} the same colour as {b}?",
    "Do {a} and {b} have the same colour?",
    "Do the {thing}s tagged {tag} and {other_tag} match in colour?",
)
HAS_COLOUR = ("{Is} {a} {colour}?", "Would you call {a} {colour}?")
OF_COLOUR = (
    "Which tagged {thing}s are {colour}?",
    "Which of the tags mark something {colour}?",
    "List the tags of everything {colour}.",
)
OF_COLOUR_ANSWER = ("{Tags} {mark} something {colour}.", "What is {colour} has {tags}.")

# Each: the question, the answer where there are others ({others}: "tags 4 and 7"; {all}: "all three"), and where not.
SAME_KIND = (
    (
        "Which other tags mark the same kind of {thing} as tag {tag}?",
        "{Others} {do}; {all} mark {plural}.",
        "None of them. Tag {tag} marks the only tagged {noun}.",
    ),
    (
        "Is anything else that is tagged of the same kind as the {thing} tagged {tag}?",
        "Yes, {others} {mark} {one_or_more} as well.",
        "No, the {noun} tagged {tag} is the only tagged one.",
    ),
    (
        "What other tagged {thing}s are of the same type as the one tagged {tag}?",
        "The {noun_or_plural} with {others}.",
        "There are no others: the {noun} tagged {tag} is the only one with a tag.",
    ),
    (
        "How many other tagged {thing}s are of the same kind as the one tagged {tag}?",
        "{Number}: the {noun_or_plural} with {others}.",
        "None. No other tag marks {name}.",
    ),
)
WHICH_TAG = (
    "Which tag marks {the}?",
    "What is the tag of {the}?",
    "Which {word} has been given to {the}?",
    "By which tag do I find {the}?",
)
WHICH_TAG_ANSWER = ("{The} {is} tagged {label}.", "Tag {label} marks {the}.", "It is tag {label}.")
NAME = (
    "What does tag {tag} stand for?",
    "What does tag {tag} mark?",
    "What is the {thing} tagged {tag}?",
    "What has been given tag {tag}?",
)
NAME_ANSWER = ("Tag {tag} marks {name}.", "It is {name}.")
IS_ON = ("Does tag {tag} stand for {name}?", "Does tag {tag} mark {name}?", "Is the {thing} tagged {tag} {name}?")

# All of the above, by which a data set says how it was worded.
TEMPLATES = tuple(text for name, text in tuple(globals().items()) if name.isupper())

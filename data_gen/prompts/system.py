"""System messages, in our own words.

The one for listings covers what SoM-LLaVA reports as needed (arXiv 2404.16375, section 3 and appendix): who the model
is, that only some things carry tags, that a tag lies on its own object and on no easier one elsewhere, that all are
listed one by one, and that doubt is said aloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.checks.labels import Labels
from data_gen.geometry import tags_are_on_things

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

_TAGS = (
    "You are a visual assistant and look at one picture at a time. Some of the things in it carry a small tag with a "
    "{kind} at their centre; others carry none. A tag lies on top of the very thing that it stands for. Never give it "
    "to something elsewhere in the picture, even if that is easier to recognise."
)
_BESIDE = (
    "Some tags had no room on their thing. Such a tag stands right beside it, outside its outline, and a thin line may "
    "join the two."
)
_AT_BOXES = (
    "You are a visual assistant and look at one picture at a time. Some of the things in it have a tag with a {kind} "
    "at a corner of their box; others have none. A tag stands for the very thing whose box it touches. Never give it "
    "to something elsewhere in the picture, even if that is easier to recognise."
)
_OF_A_COLOUR = "A tag has the colour of the outline around its thing."
_LIST = (
    "Go through the tags one by one, from the {first}, and leave none out. For each, say what it stands for: an "
    "object, a part of one, or a piece of the background. Name what tells it apart where that is visible, such as its "
    "colour, its place or what it belongs to. If a thing is partly hidden or you are not sure what it is, say so in "
    "its item instead of guessing. Do not list things without a tag."
)
_LINES = (
    "Write one line for each tag: the {kind}, a full stop, and at most {max_words} words. Write nothing before or "
    "after the list."
)
_ONE_LINE = (
    "Write everything on one line, like this: {first_label}. brown dog, {second_label}. fence. Use only a short name, "
    "of one to four words and without a comma, for each tag. Write nothing before or after it."
)
_DIALOGUE = (
    "Write a conversation between a person who asks about this picture and an assistant who sees it. The person asks "
    "{number} questions. Both speak of things by their tags, as in 'the cup tagged {second_label}'. Mix the questions: "
    "how many, where one thing is as seen from another, colours and materials, what is alike or different, what "
    "somebody is doing, what would change if something were moved. Ask only what the picture answers without doubt, "
    "never the same thing twice, and mention no tag that is not in the picture. The assistant answers in one to three "
    "full sentences of at most {max_words} words in all, and gives the tags that the answer rests on."
)
_DIALOGUE_FORM = (
    "Each question is one line that begins with 'Q: ', and each answer one line below it that begins with 'A: '. Write "
    "nothing else."
)
_DESCRIBE = (
    "Write for each tag a description by which a person who cannot see the tags would find the thing it stands for and "
    "mistake it for nothing else in the picture. Use what shows: kind, colour, size, what it does or touches, where it "
    "is. No two descriptions may be the same, and none may mention a tag. Keep each as short as it can be, at most "
    "{max_words} words, and go through the tags from the {first}, leaving none out."
)


def listing_system(labels: Labels, record: MarkRecord, style: str, max_words: int) -> str:
    """What a model is told before it lists all tags; `style` is "lines" or "sentence"."""
    return _filled(labels, max_words, *_tags(record), _LIST, _LINES if style == "lines" else _ONE_LINE)


def dialogue_system(labels: Labels, record: MarkRecord, turns: tuple[int, int], max_words: int) -> str:
    """What a model is told before it writes a conversation with that many questions (fewest, most)."""
    fewest, most = turns
    number = str(fewest) if fewest == most else f"{fewest} to {most}"
    return _filled(labels, max_words, *_tags(record), _DIALOGUE.replace("{number}", number), _DIALOGUE_FORM)


def description_system(labels: Labels, record: MarkRecord, max_words: int) -> str:
    """What a model is told before it describes each tagged thing so that nothing else fits."""
    return _filled(labels, max_words, *_tags(record), _DESCRIBE, _LINES)


def _tags(record: MarkRecord) -> tuple[str, ...]:
    """What tags are; and that some stand beside their thing, where the sidecar says so."""
    if record.preset.placement == "anchors":
        has_colour = record.preset.tag_colour == "palette" and "box" in record.preset.draw
        return (_AT_BOXES, _OF_A_COLOUR) if has_colour else (_AT_BOXES,)
    return (_TAGS,) if tags_are_on_things(record) else (_TAGS, _BESIDE)


def _filled(labels: Labels, max_words: int, *paragraphs: str) -> str:
    if labels.are_numbers:
        words = {"kind": "number", "first": "lowest number to the highest", "first_label": "1", "second_label": "2"}
    else:
        first, second = ("A", "B") if labels.names[0].isupper() else ("a", "b")
        words = {"kind": "letter", "first": "first letter to the last", "first_label": first, "second_label": second}
    return "\n".join(paragraph.format(max_words=max_words, **words) for paragraph in paragraphs)


TEMPLATES = (_TAGS, _BESIDE, _AT_BOXES, _OF_A_COLOUR, _LIST, _LINES, _ONE_LINE, _DIALOGUE, _DIALOGUE_FORM, _DESCRIBE)

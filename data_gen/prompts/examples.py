"""Worked examples for a model: two drawn pictures with answers written by hand, or a user's own from a file.

Two examples before the question improved the lists in SoM-LLaVA's study (arXiv 2404.16375, appendix). The answers here
show what is wanted: attributes, places, parts, background, and doubt where a thing cannot be made out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from data_gen.checks.dialogue import Exchange, dialogue_text
from data_gen.checks.labels import Labels
from data_gen.checks.listing import list_text
from data_gen.prompts.pictures import GARDEN, TABLE, Shape, draw
from data_gen.requests import MEDIA_TYPES, EncodedImage, Example
from data_gen.sources.base import read_json
from llava_som.images import resolve_inside
from llava_som.marks.marker import mark_image
from llava_som.marks.presets import Preset

# In the answers, [house] stands for the tag of a thing: " tagged 3", or nothing where the preset gave it no tag.
GARDEN_LIST = {
    "sky": "The clear blue sky above the house.",
    "sun": "A yellow sun, high up on the right.",
    "grass": "The lawn in the foreground, on which the dog[dog] stands.",
    "wall": "The cream-coloured front wall of a small house.",
    "roof": "The red pointed roof of the same house as the wall[wall].",
    "door": "A brown front door.",
    "window": "A window with a white frame, to the left of the door[door].",
    "tree": "A tree with a round green crown, on the left.",
    "behind fence": "Something dark grey behind the fence[fence]; most of it is hidden, so it is not clear what it is.",
    "fence": "A white picket fence that runs out of the picture on the right.",
    "dog": "A brown dog that faces right, towards the ball[ball].",
    "ball": "A small red ball in the grass.",
}
TABLE_LIST = {
    "wall": "The plain beige wall at the back.",
    "picture": "A framed picture of a green hill, hung on the wall[wall].",
    "edge": "A grey shape cut off by the left edge of the picture, possibly the back of a chair.",
    "table": "The wooden table that everything stands on.",
    "vase": "A blue vase.",
    "flower": "A single yellow flower in the vase[vase].",
    "book": "A dark green book; the plate[plate] covers one corner of it.",
    "plate": "A white plate with two apples.",
    "red apple": "A red apple, on the left side of the plate[plate].",
    "green apple": "A green apple next to the red one[red apple].",
    "mug": "A blue mug with its handle to the right.",
}
GARDEN_NAMES = {
    **{"wall": "house wall", "door": "front door", "behind fence": "unclear grey thing", "fence": "white fence"},
    **{"dog": "brown dog", "ball": "red ball"},
}
TABLE_NAMES = {"picture": "framed picture", "edge": "perhaps a chair", "table": "wooden table", "vase": "blue vase"}
GARDEN_DESCRIPTIONS = {
    "sky": "the sky",
    "sun": "the sun",
    "grass": "the lawn",
    "wall": "the cream-coloured house wall",
    "roof": "the red roof",
    "door": "the brown door",
    "window": "the window with the white frame",
    "tree": "the green tree on the left",
    "behind fence": "the grey thing hidden by the fence",
    "fence": "the white fence",
    "dog": "the brown dog",
    "ball": "the red ball",
}
TABLE_DESCRIPTIONS = {
    "wall": "the beige wall",
    "picture": "the framed picture on the wall",
    "edge": "the grey shape at the left edge",
    "table": "the wooden table",
    "vase": "the vase",
    "flower": "the yellow flower",
    "book": "the book under the plate",
    "plate": "the white plate",
    "red apple": "the red apple",
    "green apple": "the apple that is not red",
    "mug": "the blue mug",
}
# In conversations a thing in brackets has to have a tag: {dog} is the label itself.
GARDEN_TALK = (
    ("What is the dog tagged {dog} looking at?", "It faces the red ball tagged {ball}, which lies in the grass."),
    (
        "Which opening of the house is further left?",
        "The window tagged {window}; the door tagged {door} is to its right.",
    ),
    ("Does the fence tagged {fence} have the colour of the roof?", "No. The fence is white, and the roof is red."),
    (
        "If the ball tagged {ball} rolled to the tree tagged {tree}, would it pass the dog?",
        "Yes, the dog tagged {dog} stands between the ball and the tree.",
    ),
)
TABLE_TALK = (
    (
        "How many of the tagged things are apples?",
        "Two: the red one tagged {red apple} and the green one tagged {green apple}.",
    ),
    ("What do they lie on?", "Both apples lie on the white plate tagged {plate}."),
    (
        "Is the mug tagged {mug} of the same colour as the vase?",
        "Yes, the mug and the vase tagged {vase} are both blue.",
    ),
    ("What is closest to the vase tagged {vase}?", "The yellow flower tagged {flower}, because it stands in the vase."),
)

Write = Callable[[Mapping[str, str], int], str]  # {thing: label} in counting order, and which of the two pictures


def listing_examples(preset: Preset, style: str) -> tuple[Example, ...]:
    """Two tagged pictures with the lists of all their tags, as lines or as one sentence."""
    return _examples(preset, _write_lines if style == "lines" else _write_names)


def dialogue_examples(preset: Preset) -> tuple[Example, ...]:
    """Two tagged pictures with conversations about them."""
    return _examples(preset, _write_talk)


def description_examples(preset: Preset) -> tuple[Example, ...]:
    """Two tagged pictures with a description of each tagged thing that fits nothing else."""
    return _examples(preset, _write_descriptions)


@lru_cache(maxsize=8)
def file_examples(file: Path) -> tuple[Example, ...]:
    """The tagged pictures of a LLaVA JSON file and the lists written for them; at most 8, paths beside the file.

    Raises:
        ValueError: not such a file, an image that is absent or neither JPEG nor PNG, a list that cannot be read back.
    """
    rows = read_json(file)
    if not isinstance(rows, list) or not 1 <= len(rows) <= 8:
        raise ValueError(f"examples_file={file}: has to be a JSON list of 1 to 8 records in LLaVA's format.")
    return tuple(_file_example(file, number, row) for number, row in enumerate(rows, start=1))


def wording_hash(texts: Iterable[str]) -> str:
    """SHA-256 over all wording a recipe uses, so that a data set says which one it was made with."""
    return sha256("\0".join(texts).encode("utf-8")).hexdigest()


def example_texts(examples: Iterable[Example]) -> list[str]:
    """The pictures (as hashes) and answers of examples, for `wording_hash`."""
    return [part for example in examples for part in (sha256(example.image.data).hexdigest(), example.answer)]


def _file_example(file: Path, number: int, row: object) -> Example:
    where = f"examples_file={file}, record {number}"
    try:
        name, answer = row["image"], row["conversations"][-1]["value"]  # type: ignore[index]
        assert isinstance(name, str) and isinstance(answer, str)
    except (TypeError, KeyError, IndexError, AssertionError):
        raise ValueError(
            f'{where}: needs "image" and "conversations", the last of which holds the list as "value".'
        ) from None
    path = resolve_inside(name, file.parent)
    if path.suffix.lower() not in MEDIA_TYPES or not path.is_file():
        raise ValueError(f"{where}: {path} has to be a {' or '.join(MEDIA_TYPES)} file, and to exist.")
    if not Labels(("1",)).items(answer) and not Labels(("a",)).items(answer):
        raise ValueError(f"{where}: its last turn is not a list of tags, such as 1. a red cup.")
    return Example(EncodedImage(path.read_bytes(), MEDIA_TYPES[path.suffix.lower()]), answer)


@lru_cache(maxsize=16)
def _examples(preset: Preset, write: Write) -> tuple[Example, ...]:
    pictures = (_marked(shapes, preset) for shapes in (GARDEN, TABLE))
    answers = ((image, write(tags, place)) for place, (image, tags) in enumerate(pictures) if tags)
    return tuple(Example(image, answer) for image, answer in answers if answer)


@lru_cache(maxsize=8)
def _marked(shapes: tuple[Shape, ...], preset: Preset) -> tuple[EncodedImage, dict[str, str]]:
    """The picture with its tags, as PNG, and {thing: label} of those that got one, in counting order."""
    image, regions = draw(shapes)
    marked = mark_image(image, regions, preset)
    file = io.BytesIO()
    marked.image.save(file, "PNG", optimize=True)
    things = {mark.label: str(mark.category) for mark in marked.record.marks}
    return EncodedImage(file.getvalue(), "image/png"), {things[label]: label for label in Labels.of([*things]).names}


def _write_lines(tags: Mapping[str, str], place: int) -> str:
    texts = (GARDEN_LIST, TABLE_LIST)[place]

    def tag(found: re.Match[str]) -> str:
        return f" tagged {tags[found[1]]}" if found[1] in tags else ""

    return list_text({label: re.sub(r"\[([^]]+)\]", tag, texts[name]) for name, label in tags.items()})


def _write_names(tags: Mapping[str, str], place: int) -> str:
    names = (GARDEN_NAMES, TABLE_NAMES)[place]
    return list_text({label: names.get(name, name) for name, label in tags.items()}, "sentence")


def _write_descriptions(tags: Mapping[str, str], place: int) -> str:
    texts = (GARDEN_DESCRIPTIONS, TABLE_DESCRIPTIONS)[place]
    return list_text({label: texts[name] for name, label in tags.items()})


def _write_talk(tags: Mapping[str, str], place: int) -> str:
    """The exchanges whose things all have tags."""
    return dialogue_text(
        [
            Exchange(question.format_map(tags), answer.format_map(tags))
            for question, answer in (GARDEN_TALK, TABLE_TALK)[place]
            if all(name in tags for name in re.findall(r"\{([^}]+)\}", question + answer))
        ]
    )

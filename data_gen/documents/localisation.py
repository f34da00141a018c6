"""Tasks that tie text to its place: text to box and box to text, at four sizes (arXiv 2403.12895, section 3.2).

A word, a phrase (some words of a line), a line, a block (two lines up to half of the page's). A text that stands on the
page twice, if only in capitals or before a comma, is never asked for, nor a word so small that its place would be lost
in the rounding of boxes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Literal, NamedTuple, TypeVar

from data_gen.documents import prompts
from data_gen.documents.reading import Turns, exchange
from llava_som.data.page_record import Box, PageRecord, Word, around
from llava_som.data.text_boxes import encode_box

T = TypeVar("T")
_AROUND = re.compile(r"^\W+|\W+$")
Grain = Literal["word", "phrase", "line", "block"]
TASK_NAMES: dict[Grain, str] = {"word": "word", "phrase": "phrase", "line": "line", "block": "paragraph"}
"""What the published data calls the four sizes."""
BUNDLED: frozenset[Grain] = frozenset({"word", "phrase"})  # short enough for several questions about one page
LONGEST_PHRASE = 5  # words
Excerpt = list[tuple[Word, ...]]
"""Words of one line, or of some lines below one another."""


class Place(NamedTuple):
    """A text on a page and the pixels it takes."""

    text: str
    box: Box


def places(page: PageRecord, grain: Grain, min_word_area: float, rng: Random) -> Iterator[Place]:
    """Texts of one size that stand on the page once, each with its place, in random order.

    Args:
        page: the page.
        grain: the size.
        min_word_area: smallest word, as a share of the page.
        rng: draws which, and in which order.
    """
    found = list(EXCERPTS[grain](page, rng))
    rng.shuffle(found)
    written = spaced(line.words for line in page.lines)
    for excerpt in found:
        box = around(word.box for words in excerpt for word in words)
        text = "\n".join(" ".join(word.text for word in words) for words in excerpt)
        is_large = grain != "word" or area(box) >= min_word_area * page.size[0] * page.size[1]
        if is_large and has_letters(text) and stands_once(spaced(excerpt), written):
            yield Place(text, box)


def single_words(page: PageRecord, rng: Random) -> Iterator[Excerpt]:
    """Every word."""
    return ([(word,)] for word in page.words)


def phrases(page: PageRecord, rng: Random) -> Iterator[Excerpt]:
    """Of each line some words that follow one another, fewer than it has; dashes and bullets are at neither end."""
    for line in page.lines:
        if len(line.words) > 2:
            phrase = run_of(line.words, min(LONGEST_PHRASE, len(line.words) - 1), rng)
            if has_letters(phrase[0].text) and has_letters(phrase[-1].text):
                yield [phrase]


def whole_lines(page: PageRecord, rng: Random) -> Iterator[Excerpt]:
    """Every line of more than one word."""
    return ([line.words] for line in page.lines if len(line.words) > 1)


def line_groups(page: PageRecord, rng: Random) -> Iterator[Excerpt]:
    """Of each block some lines that follow one another, at most half as many as the page has."""
    half = len(page.lines) // 2
    for block in page.blocks:
        if min(len(block.lines), half) > 1:
            yield [line.words for line in run_of(block.lines, min(len(block.lines), half), rng)]


EXCERPTS: dict[Grain, Callable[[PageRecord, Random], Iterator[Excerpt]]] = {
    "word": single_words,
    "phrase": phrases,
    "line": whole_lines,
    "block": line_groups,
}


def run_of(items: Sequence[T], most: int, rng: Random) -> tuple[T, ...]:
    """Two to `most` items in a row."""
    length = rng.randint(2, most)
    first = rng.randint(0, len(items) - length)
    return tuple(items[first : first + length])


def spaced(lines: Iterable[Sequence[Word]]) -> str:
    """Text in which one excerpt is found in another only where whole words, without marks, and line ends agree."""
    return "\n".join("".join(f" {bare(word.text)} " for word in words) for words in lines)


def bare(text: str) -> str:
    """A word in small letters without the marks around it: "(Total," is the same word as "total"."""
    return _AROUND.sub("", text.casefold()) or text


def stands_once(text: str, written: str) -> bool:
    """Whether a text is found in another in one place only; places may overlap."""
    return written.find(text) == written.rfind(text)


def has_letters(text: str) -> bool:
    """Whether there is a letter or digit, and not marks alone."""
    return any(map(str.isalnum, text))


def area(box: Box) -> int:
    """Pixels in a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def locate(page: PageRecord, chosen: Sequence[Place], rng: Random) -> Turns:
    """From text to box, a question for each place."""
    return bundled(
        (rng.choice(prompts.LOCATE_TEXT).format(text=f"<ocr> {text} </ocr>"), encode_box(box, page.size))
        for text, box in chosen
    )


def recognise(page: PageRecord, chosen: Sequence[Place], rng: Random) -> Turns:
    """From box to text, a question for each place."""
    return bundled(
        (rng.choice(prompts.RECOGNISE_TEXT).format(box=encode_box(box, page.size)), f"<ocr> {text} </ocr>")
        for text, box in chosen
    )


def bundled(questions: Iterable[tuple[str, str]]) -> Turns:
    """Questions and answers as one conversation; the page stands before the first question."""
    pairs = [exchange(question, answer, images=int(number == 0)) for number, (question, answer) in enumerate(questions)]
    return tuple(turn for pair in pairs for turn in pair)

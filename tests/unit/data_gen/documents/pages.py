"""Pages of text with known places, without any file."""

from __future__ import annotations

from data_gen.documents.layout import blocks_of_words
from llava_som.data.page_record import PageRecord, Word

WIDE, HIGH, STEP = 10, 16, 20  # pixels: a character, a line, from line to line


def text_page(text: str, size: tuple[int, int] = (640, 480), **known) -> PageRecord:
    """A page of typewriter text: line k begins 20 * k pixels from the top, every character is 10 pixels wide."""
    words = []
    for row, line in enumerate(text.split("\n")):
        at = 0
        for word in line.split():
            at = line.index(word, at)
            box = (WIDE * at, STEP * row, WIDE * (at + len(word)), STEP * row + HIGH)
            words.append(Word(text=word, box=box))
            at += len(word)
    return PageRecord(**{"size": size, "kind": "document", "blocks": blocks_of_words(words), **known})


MINUTES = "Minutes of the meeting\nAnna opened the meeting at nine\nThe treasurer reported\na surplus of 312 pounds"
AGENDA = "Agenda for the spring\nWalk to the lighthouse\nRepair of the boat shed\nElection of a new chair"
LETTER = "Dear members\nplease return the keys\nbefore the end of May\nYours Ada"

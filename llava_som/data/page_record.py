"""The sidecar of a page: what is written on it and where, in blocks of lines of words; for a table or chart, its data.

One JSON file beside each page image, `<image stem>.page.json`, so that every later stage (tasks, scores, the viewer)
can check a text or a box against the page without reading it again. Boxes are pixels of that image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from llava_som import __version__

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first pixel outside."""
PageKind = Literal["document", "table", "chart", "photo"]

_SUFFIX = ".page.json"


class Word(BaseModel):
    """Characters without white space between them, and the pixels they take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    box: Box


class Line(BaseModel):
    """Words side by side, from left to right, without a gap as wide as one between columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: tuple[Word, ...]

    @property
    def box(self) -> Box:
        """Around its words."""
        return around(word.box for word in self.words)

    @property
    def text(self) -> str:
        """Its words with one space between them."""
        return " ".join(word.text for word in self.words)


class Block(BaseModel):
    """Lines below one another that belong together: a paragraph, a heading, a column of a table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: tuple[Line, ...]

    @property
    def box(self) -> Box:
        """Around its lines."""
        return around(line.box for line in self.lines)


class PageRecord(BaseModel):
    """Everything known about one page.

    Args:
        image: file name of the page's image, once it has one.
        size: (width, height) of that image.
        kind: what the page is: running text, a table, a chart, or a photo with text in it.
        file: the file that the page comes from, or the id of one that was drawn.
        tool_version: version of llava_som that read or drew it.
        origin: which source it comes from, with its options.
        blocks: what is written on it, in reading order.
        markdown: a table, or the data behind a chart.
        caption: what a photo shows, where that is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    image: str | None = None
    size: tuple[int, int]
    kind: PageKind
    file: str = ""
    tool_version: str = __version__
    origin: dict[str, Any] = {}
    blocks: tuple[Block, ...]
    markdown: str | None = None
    caption: str | None = None

    @property
    def lines(self) -> list[Line]:
        """The lines of all blocks."""
        return [line for block in self.blocks for line in block.lines]

    @property
    def words(self) -> Iterator[Word]:
        """The words of all lines."""
        return (word for line in self.lines for word in line.words)

    def to_json(self) -> str:
        """The text of the sidecar file."""
        return self.model_dump_json() + "\n"

    @classmethod
    def load(cls, path: str | Path) -> PageRecord:
        """Read a record; a file that is absent or not a record is a ValueError naming it."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise ValueError(f"{path} is not a readable page sidecar; make the page again. {error}") from error


def page_sidecar_path(image_path: str | Path) -> Path:
    """Where the record of a page image lies: `0001.png` -> `0001.page.json`, in the same folder."""
    return Path(image_path).with_suffix(_SUFFIX)


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of these; at least one is needed."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def inside(box: Box, size: tuple[int, int]) -> Box:
    """A box as far as it lies in an image of this (width, height), at least one pixel wide and high."""
    left, top = min(max(0, box[0]), size[0] - 1), min(max(0, box[1]), size[1] - 1)
    return left, top, max(left + 1, min(box[2], size[0])), max(top + 1, min(box[3], size[1]))

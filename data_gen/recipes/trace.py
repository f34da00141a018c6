"""Say where the marks will go: Trace-of-Mark (Magma, arXiv 2502.13130, section 3.2), from marks that know their trace.

The picture counts as 256x256 cells, whatever its size. The answer names the marks that move with the cell they are in,
then gives the cells each one will pass; points less than 2 cells apart are thinned out, and points outside of the
picture left out, on all four sides. Where nothing moves, marks can be located instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from data_gen.recipes import RECIPES
from data_gen.recipes.base import Recipe
from data_gen.requests import Conversation, Message, Rejected, Request, Tagged, Turn
from llava_som.config_file import option

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

CELLS = 256
SPACING = 2  # cells between two points of a path
Cell = tuple[int, int]

SCENES = (
    "The picture is divided into 256x256 cells, and the marks {marks} are drawn on it.",
    "Lay a grid of 256 by 256 cells over this frame; it carries the marks {marks}.",
    "This is the first frame of a short video. It counts as 256x256 cells and has the marks {marks} on it.",
    "You see marks with the numbers {marks}. Positions are cells, 256 from left to right and 256 from top to bottom.",
    "A video starts with this picture, on which the marks {marks} sit. Split it into 256x256 cells.",
    "In cells of a 256x256 grid, [0,0] is the top left of this frame. The marks {marks} have been placed on it.",
)
TRACE_QUESTIONS = (
    "How should the marks move in the next {steps}?",
    "Which of the marks will move, and where to, within the next {steps}?",
    "Predict the way of every mark that moves during the following {steps}.",
    "Where will the moving marks be in each of the next {steps}?",
    "Some of the marks are about to move. Give the cells they pass in the {steps} to come.",
    "Please foresee the motion: for each mark that will not stay where it is, list its positions in the next {steps}.",
    "What paths do the marks take over the next {steps}?",
    "Say which marks set off and trace them through the next {steps}.",
    "Looking {steps} ahead, how do the marks travel?",
    "Write down the future positions of the marks in motion, for up to {steps}.",
    "Could you work out where each moving mark goes in the coming {steps}?",
    "Continue the video in your mind for {steps}. Along which cells do the marks move?",
)
LOCATE_QUESTIONS = (
    "Where is each of the marks?",
    "Locate all numeric marks.",
    "Give the cell of every mark, in the order of the numbers.",
    "Please say in which cell each mark sits.",
    "What are the positions of the marks?",
    "Find every mark and report its cell.",
    "Read off the position of each numbered mark.",
    "For each mark, tell me the cell it lies in.",
)

_PLACE = re.compile(r"\bMark\s+(\d+)\s+at\s+\[\s*(-?\d+)\s*,\s*(-?\d+)\s*\]", re.IGNORECASE)
_PATH = re.compile(r"""\bMark\s+(\d+)["']?\s*:\s*["']?\[(\s*\[[-\d\s,\[\]]*\]\s*)\]""", re.IGNORECASE)
_CELL = re.compile(r"\[\s*(-?\d+)\s*,\s*(-?\d+)\s*\]")


@RECIPES.register("trace")
@dataclass(frozen=True, kw_only=True)
class TraceRecipe(Recipe):
    """Where the marks of a video's frame will move; needs source=video."""

    needs: ClassVar[Literal["traces"]] = "traces"

    still: Literal["reject", "locate"] = option(
        "reject", help="where nothing moves: reject the picture, or ask where the marks are"
    )
    min_speed: float = option(1.0, help="a mark moves that goes at least this many cells a step, on average")
    tell_speed: bool = option(False, help="the question also gives the mean speed of the moving marks")

    def __post_init__(self) -> None:
        if not 0 <= self.min_speed < CELLS:
            raise ValueError(f"min_speed={self.min_speed}: give cells a step, from 0 to {CELLS}.")

    def conversation(self, tagged: Tagged, rng: Random) -> Conversation:
        """One question and the paths of the marks that move; or, where none does and still="locate", their places."""
        record = tagged.record
        if not all(mark.trace for mark in record.marks):
            raise Rejected("no traces", "the marks do not know where they will be. Use source=video.")
        if any(mark.label != str(mark.id) for mark in record.marks):
            raise Rejected("marks without numbers", "traces are told by number. Use marks.labels=numbers.")
        paths = moving_paths(record, self.min_speed)
        if not paths and self.still == "reject":
            raise Rejected(
                "nothing moves", f"no mark goes {self.min_speed} cells a step; still=locate keeps such pictures"
            )
        question = self._question(record, paths, rng)
        answer = yield Request(
            image=tagged.image,
            messages=(Message("user", question),),
            max_tokens=2048,
            truth=trace_text(paths) if paths else places_text(record),
        )
        ids = [mark.id for mark in record.marks]
        problems = path_problems(answer.text, ids) if paths else place_problems(answer.text, ids)
        if problems:
            raise Rejected("the positions do not fit the marks", "; ".join(problems), answer.text)
        return [Turn("human", f"<image>\n{question}"), Turn("gpt", answer.text)]

    def _question(self, record: MarkRecord, paths: dict[int, list[Cell]], rng: Random) -> str:
        """What the picture carries, then what is asked; without paths, where the marks are."""
        steps = max((len(path) - 1 for path in paths.values()), default=0)
        wording = f"{rng.choice(SCENES)} {rng.choice(TRACE_QUESTIONS if paths else LOCATE_QUESTIONS)}"
        if self.tell_speed and paths:
            speed = fmean(cells_a_step(mark.trace, record.size) for mark in record.marks if mark.id in paths)
            wording += f" The marks that move go {round(speed)} cells a step on average."
        labels = ", ".join(mark.label for mark in record.marks)
        return wording.format(marks=labels, steps=f"{steps} step{'s' * (steps != 1)}")


def moving_paths(record: MarkRecord, min_speed: float) -> dict[int, list[Cell]]:
    """The path of each mark that goes `min_speed` cells a step and gets anywhere, by id."""
    moving = [mark for mark in record.marks if cells_a_step(mark.trace, record.size) >= min_speed]
    paths = {mark.id: path_of(mark.trace, record.size) for mark in moving}
    return {number: path for number, path in sorted(paths.items()) if len(path) > 1}


def cells_a_step(trace: Sequence[tuple[float, float]], size: tuple[int, int]) -> float:
    """How far a mark moves from frame to frame, on average and before thinning."""
    width, height = size
    cells = [(CELLS * x / width, CELLS * y / height) for x, y in trace]
    return sum(map(math.dist, cells, cells[1:])) / max(len(cells) - 1, 1)


def path_of(trace: Sequence[tuple[float, float]], size: tuple[int, int]) -> list[Cell]:
    """The cells of a trace, without points outside of the picture and points less than SPACING from the one before."""
    path: list[Cell] = []
    for x, y in trace:
        inside = 0 <= x < size[0] and 0 <= y < size[1]
        if inside and (not path or math.dist(path[-1], cell_of((x, y), size)) >= SPACING):
            path.append(cell_of((x, y), size))
    return path


def cell_of(point: tuple[float, float], size: tuple[int, int]) -> Cell:
    """The cell that a point of a picture of (W, H) lies in; for a point outside, the nearest at the border."""
    column, row = (
        min(max(int(CELLS * value / length), 0), CELLS - 1) for value, length in zip(point, size, strict=True)
    )
    return column, row


def trace_text(paths: dict[int, list[Cell]]) -> str:
    """The answer that gives each mark's first cell in one sentence and the rest of its path on a line of its own."""
    lead = ", ".join(_place(number, path[0]) for number, path in paths.items())
    lines = [f'"Mark {number}": "[{",".join(map(_cell_text, path[1:]))}]"' for number, path in paths.items()]
    return "\n\n".join([f"{lead} will move. Their positions from there on:", *lines])


def places_text(record: MarkRecord) -> str:
    """The answer that gives each mark's cell."""
    return " ".join(f"{_place(mark.id, cell_of(mark.trace[0], record.size))}." for mark in record.marks)


def parse_trace(text: str) -> dict[int, list[Cell]]:
    """{mark: its cells, first one first} of an answer in either form; {} when it holds none. Never fails.

    What is said first of a mark stands. Magma's own wording, which differs around the same format, is read too.
    """
    cells: dict[int, list[Cell]] = {}
    for number, x, y in _PLACE.findall(text):
        cells.setdefault(_int(number), [(_int(x), _int(y))])
    paths: dict[int, list[Cell]] = {}
    for number, body in _PATH.findall(text):
        paths.setdefault(_int(number), [(_int(x), _int(y)) for x, y in _CELL.findall(body)])
    return {number: cells.get(number, []) + paths.get(number, []) for number in {**cells, **paths}}


def _int(digits: str) -> int:
    """A number; of an endless one, which Python refuses, the first digits are as far outside of the grid."""
    return int(digits[:9])


def path_problems(text: str, ids: Sequence[int]) -> list[str]:
    """What is wrong with an answer about how the marks `ids` move, in words; it need not speak of all of them."""
    paths = parse_trace(text)
    if not paths:
        return ["no mark with a position"]
    return _named({**_misfits(paths, ids), "without a path": [mark for mark, path in paths.items() if len(path) < 2]})


def place_problems(text: str, ids: Sequence[int]) -> list[str]:
    """What is wrong with an answer about where the marks `ids` are, in words; each has to be there."""
    places = parse_trace(text)
    return _named({"missing": [mark for mark in ids if mark not in places], **_misfits(places, ids)})


def _misfits(cells: dict[int, list[Cell]], ids: Sequence[int]) -> dict[str, list[int]]:
    """The marks that do not exist, and those with a cell outside of the grid."""
    outside = [mark for mark, path in cells.items() if not all(0 <= value < CELLS for cell in path for value in cell)]
    return {"invented": [mark for mark in cells if mark not in ids], "outside of the grid": outside}


def _named(findings: dict[str, list[int]]) -> list[str]:
    return [f"{fault}: {', '.join(map(str, marks))}" for fault, marks in findings.items() if marks]


def _place(number: int, cell: Cell) -> str:
    return f"Mark {number} at {_cell_text(cell)}"


def _cell_text(cell: Cell) -> str:
    return f"[{cell[0]},{cell[1]}]"

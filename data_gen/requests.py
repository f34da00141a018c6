"""What recipes and annotators say to each other: one question about one picture, and one answer.

A recipe is a generator: it yields requests, receives answers and returns turns. It never calls an annotator, so the
same recipe runs one image at a time, in batches on a GPU, or with a thousand requests under way.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from llava_som.images import write_image

if TYPE_CHECKING:
    from llava_som.marks.record import MarkRecord

MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True)
class EncodedImage:
    """A picture as it is stored and sent: the bytes of a JPEG or PNG file, and which of the two."""

    data: bytes
    media_type: str

    @classmethod
    def read(cls, file: Path) -> EncodedImage:
        """The bytes of a .jpg or .png file that the pipeline wrote."""
        return cls(file.read_bytes(), MEDIA_TYPES[file.suffix])

    @classmethod
    def of(cls, image: Image.Image, suffix: str) -> EncodedImage:
        """A picture as the pipeline would write it to a file with this suffix."""
        file = io.BytesIO()
        write_image(image, file, suffix)
        return cls(file.getvalue(), MEDIA_TYPES[suffix])

    def open(self) -> Image.Image:
        """The picture, RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


@dataclass(frozen=True)
class Message:
    """One message of the conversation with the annotator; the picture belongs to the first one."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Example:
    """A worked example shown before the question: a picture and the answer that was wanted."""

    image: EncodedImage
    answer: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question about one picture.

    Attributes:
        image: the picture; it goes into the first of `messages`.
        messages: ends with a user message; its text may be empty (the picture alone asks).
        system: instructions that stand before everything else.
        examples: shown as earlier turns, picture by the user, answer by the assistant.
        max_tokens: the longest answer that makes sense.
        seed: for annotators that sample.
        truth: the answer the annotation itself gives, where the sidecar knows enough for one.
        no_truth: when `truth` is None, what the sidecar lacks.
    """

    image: EncodedImage
    messages: tuple[Message, ...]
    system: str = ""
    examples: tuple[Example, ...] = ()
    max_tokens: int = 1024
    seed: int = 0
    truth: str | None = None
    no_truth: str = ""


@dataclass(frozen=True)
class Answer:
    """What an annotator said, and what it cost in tokens (0 where nothing was computed)."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Rejected(ValueError):
    """A record that must not become training data.

    Attributes:
        kind: the reason in a few words, the same for all records with this fault; summaries count by it.
        detail: what it is about this record.
        answer: what the annotator said, word for word; empty when it said nothing.
        prompt_tokens, completion_tokens: what that answer cost.
    """

    def __init__(
        self, kind: str, detail: str, answer: str = "", prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.answer = answer
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens

    def __reduce__(self) -> tuple[Any, ...]:
        """An exception with several arguments does not come through a pickle by itself."""
        return type(self), (self.kind, self.detail, self.answer, self.prompt_tokens, self.completion_tokens)


@dataclass(frozen=True)
class Turn:
    """One turn of a training conversation in LLaVA's terms."""

    speaker: Literal["human", "gpt"]
    text: str


@dataclass(frozen=True)
class PageSample:
    """A training conversation about pages.

    Attributes:
        id: of the sample.
        task: what is asked, in a word.
        pages: ids of the pages in the order of the `<image>`s.
        turns: the conversation.
    """

    id: str
    task: str
    pages: tuple[str, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Tagged:
    """A tagged image as recipes see it: its id, the picture with its marks, and the sidecar."""

    id: str
    image: EncodedImage
    record: MarkRecord


Conversation = Generator[Request, Answer, list[Turn]]

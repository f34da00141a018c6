"""One training record, in the LLaVA form, as chat messages or in DocOwl's form, checked and brought to one shape.

Everything after this module sees messages made of content parts; what is odd about a record is said here, in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

IMAGE_PLACEHOLDER = "<image>"
DOCOWL_PLACEHOLDER = "<|image|>"
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class TextPart(BaseModel):
    """Words in a message."""

    type: Literal["text"] = "text"
    text: StrictStr


class ImagePart(BaseModel):
    """The place of the next image in a message."""

    type: Literal["image"] = "image"


class Message(BaseModel):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]

    @property
    def text(self) -> str:
        """The words of the turn, without its images."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def num_images(self) -> int:
        """How many images the turn shows."""
        return sum(isinstance(part, ImagePart) for part in self.content)


class Sample(BaseModel):
    """A conversation and the files of its images, in the order in which the conversation shows them."""

    model_config = ConfigDict(frozen=True)

    id: str
    images: list[StrictStr]
    messages: list[Message]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Sample:
        """Read a record.

        Three forms are known: LLaVA's `{"id", "image", "conversations": [{"from", "value"}]}`, the chat form
        `{"id", "images", "messages": [{"role", "content"}]}`, and that of mPLUG-DocOwl's JSONL, which is the chat form
        with `<|image|>` in place of `<image>`. `image` (or `images`) is a path, a list of paths or absent. Such a
        placeholder in a user's text becomes an image part where it stands; the line break after it is dropped, because
        the chat template writes its own. A single one on the last line of a text, as in a part of LLaVA's mix665k,
        comes before the text, where LLaVA's own training puts it.

        Raises:
            ValueError: says which rule the record breaks and shows the value.
        """
        turns = record.get("conversations", record.get("messages"))
        if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
            raise ValueError("has no turns: 'conversations' (or 'messages') must be a list that is not empty.")
        placeholder = _placeholder(record)
        try:
            sample = cls(
                id=str(record.get("id", "")),
                images=_image_files(record),
                messages=[_message(turn, position, placeholder) for position, turn in enumerate(turns)],
            )
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(step) for step in problem["loc"])
            raise ValueError(f"{where}={problem['input']!r}: {problem['msg']}.") from None
        _check_roles(sample)
        _check_image_count(sample, placeholder)
        return sample


def is_docowl(record: Mapping[str, Any]) -> bool:
    """Whether the messages of a record show their images as DocOwl's do, by `<|image|>`."""
    messages = record.get("messages")
    return isinstance(messages, list) and any(
        DOCOWL_PLACEHOLDER in str(message.get("content")) for message in messages if isinstance(message, Mapping)
    )


def _placeholder(record: Mapping[str, Any]) -> str:
    """What stands for an image in the text of a record; a ValueError where two things do."""
    if "conversations" in record or not is_docowl(record):
        return IMAGE_PLACEHOLDER
    if IMAGE_PLACEHOLDER in str(record["messages"]):
        raise ValueError(f"the text holds both {DOCOWL_PLACEHOLDER} and {IMAGE_PLACEHOLDER}; write one of them.")
    return DOCOWL_PLACEHOLDER


def _image_files(record: Mapping[str, Any]) -> Any:
    files = record.get("image", record.get("images"))
    if files is None:
        return []
    return [files] if isinstance(files, str) else files


def _message(turn: Any, position: int, placeholder: str) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError(f"turn {position} is {turn!r}; it must be an object with 'from' and 'value'.")
    speaker = turn.get("from", turn.get("role"))
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise ValueError(f"turn {position} is from {speaker!r}; allowed: {', '.join(ROLES)}.")
    content = turn.get("value", turn.get("content"))
    if not isinstance(content, str | list):
        raise ValueError(f"turn {position} says {content!r}; it must be text, or a list of content parts.")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    pieces = [piece for part in parts for piece in _split_at_images(part, placeholder)]
    return Message(role=ROLES[speaker], content=pieces)  # type: ignore[arg-type]


def _split_at_images(part: Any, placeholder: str) -> list[Any]:
    """A text part as text and image parts; any other part as it is."""
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str) or placeholder not in text:
        return [part]
    if text.count(placeholder) == 1 and text.rstrip().endswith(f"\n{placeholder}"):
        return [ImagePart(), TextPart(text=text.rstrip().removesuffix(placeholder).rstrip("\n"))]
    pieces: list[Any] = []
    for piece in re.split(rf"({re.escape(placeholder)})\n*", text):
        if piece == placeholder:
            pieces.append(ImagePart())
        elif piece:
            pieces.append(TextPart(text=piece))
    return pieces


def _check_roles(sample: Sample) -> None:
    roles = [message.role for message in sample.messages]
    turns = roles[1:] if roles[0] == "system" else roles
    expected = ["user", "assistant"] * ((len(turns) + 1) // 2)
    if turns != expected or not turns:
        raise ValueError(f"turns are {roles}; they must alternate user, assistant and end with the assistant.")
    for position, message in enumerate(sample.messages):
        message.text.encode()  # half a surrogate pair is a ValueError here; no tokenizer takes it
        if message.role == "assistant" and not message.text.strip():
            raise ValueError(f"turn {position} is an empty answer; there is nothing to learn from it.")
        if message.role != "user" and message.num_images:
            raise ValueError(f"turn {position} ({message.role}) holds {IMAGE_PLACEHOLDER}; only users show images.")


def _check_image_count(sample: Sample, placeholder: str) -> None:
    placeholders = sum(message.num_images for message in sample.messages)
    if placeholders != len(sample.images):
        raise ValueError(
            f"the text holds {placeholders} {placeholder}, the record names {len(sample.images)} image(s)."
        )

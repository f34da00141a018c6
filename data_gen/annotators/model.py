"""What annotators behind which a model stands have in common: the chat they send and the answers they keep."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from data_gen.annotators.base import Annotator
from data_gen.answer_cache import AnswerCache
from llava_som.config_file import option

if TYPE_CHECKING:
    from data_gen.requests import EncodedImage, Request

Part = dict[str, Any]
T = TypeVar("T")


class made_once(cached_property[T]):
    """A cached_property that makes one model or connection also when several threads ask for the first time."""

    making = threading.RLock()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The value; threads that come while it is made wait for it."""
        with self.making:
            return super().__get__(instance, owner)


@dataclass(frozen=True, kw_only=True)
class ModelAnnotator(Annotator):
    """An annotator that asks a model. What is asked, sampling included, decides which kept answer is taken."""

    is_shared: ClassVar[bool] = True
    transient_fields: ClassVar[frozenset[str]] = frozenset({"cache"})

    model: str = option(help="name or folder of the model")
    temperature: float = option(0.0, help="0 takes the likeliest token; above, each request samples by its own seed")
    top_p: float | None = option(None, help="when sampling, only from the likeliest tokens of this total probability")
    max_tokens: int | None = option(None, help="longest answer in tokens; default: what the recipe asks for")
    cache: Path | None = option(None, help="folder of kept answers, which runs may share; default: answers/ in out")

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model=: is empty. Give the name or folder of a model that takes images.")
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature}: must be 0 (no sampling) or more.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be above 0 and at most 1, or left out.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens}: must be at least 1, or left out.")

    @abstractmethod
    def question(self, request: Request) -> dict[str, Any]:
        """All that decides the answer to a request, as JSON values: what an answer is kept under. No secret."""

    def longest(self, request: Request) -> int:
        """How many tokens the answer may have."""
        return self.max_tokens or request.max_tokens

    def describe(self) -> dict[str, Any]:
        """The model and how it samples."""
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {"model": self.model, **{key: value for key, value in sampling.items() if value is not None}}

    @made_once
    def answers(self) -> AnswerCache:
        """The kept answers; one object for all threads, so that they see each other's questions."""
        return AnswerCache(self.cache)


def chat(request: Request, show: Callable[[EncodedImage], Part]) -> list[dict[str, Any]]:
    """A request as chat messages: system, the examples as turns of their own, then the conversation.

    Args:
        request: what to ask.
        show: a picture as a part of a message.

    Returns:
        {"role", "content"} each, the content a list of parts with the picture first; texts are
        {"type": "text", "text"}.
    """
    messages = [{"role": "system", "content": [_text(request.system)]}] if request.system else []
    for example in request.examples:
        messages.append({"role": "user", "content": [show(example.image)]})
        messages.append({"role": "assistant", "content": [_text(example.answer)]})
    for number, message in enumerate(request.messages):
        picture = [show(request.image)] if number == 0 else []
        words = [_text(message.text)] if message.text else []
        messages.append({"role": message.role, "content": picture + words})
    return messages


def _text(text: str) -> Part:
    return {"type": "text", "text": text}

"""Answers that were computed or paid for, kept by content: the same question is never asked twice.

One JSON file for each answer, named by the hash of everything that decides it, so a killed run, another recipe on the
same images or another host on the same file system finds what is there. The file also holds the question, readable.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_gen.requests import Answer, EncodedImage, Rejected
from llava_som.files import new_file

logger = logging.getLogger(__name__)

REJECTED_ENDS = {
    "length": ("answer cut short", "it reached the limit of {completion_tokens} tokens"),
    "content_filter": ("refused by the server", "content filter"),
}
"""Why a reply ended -> the reason (kind, detail) for which it is no answer. All other ends are answers."""


@dataclass(frozen=True)
class Reply:
    """What a model said: the text, why it ended there (`stop`, `length`, `content_filter`), and the tokens it cost."""

    text: str
    end: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def result(self) -> Answer | Rejected:
        """An answer, or why this is none."""
        if self.end in REJECTED_ENDS:
            kind, detail = REJECTED_ENDS[self.end]
            detail = detail.format(completion_tokens=self.completion_tokens)
            return Rejected(kind, detail, self.text, self.prompt_tokens, self.completion_tokens)
        return Answer(self.text, self.prompt_tokens, self.completion_tokens)


def digest(image: EncodedImage) -> str:
    """What stands for a picture in a question that is kept."""
    return f"sha256:{hashlib.sha256(image.data).hexdigest()}"


class AnswerCache:
    """A folder of replies by question. Threads, processes and hosts may share it; without a folder nothing is kept.

    A question is any JSON value that holds everything that decides the reply, and no secret.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._under_way: dict[str, Future[Reply]] = {}
        self._lock = threading.Lock()

    def read_or_ask(self, question: Any, ask: Callable[[], Reply]) -> Reply:
        """The kept reply, or else that of `ask()`, which is then kept.

        Threads of this process with the same question wait for the first one's reply, or share its error.
        """
        key = _key(question)
        with self._lock:
            first = key not in self._under_way
            future = self._under_way.setdefault(key, Future())
        if not first:
            return future.result()
        try:
            reply = self.read(question)
            if reply is None:
                reply = ask()
                self.write(question, reply)
            future.set_result(reply)
            return reply
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._under_way[key]

    def read(self, question: Any) -> Reply | None:
        """The kept reply; None when there is none, or when its file is damaged."""
        if self.folder is None:
            return None
        path = self._path(question)
        try:
            entry = json.loads(path.read_bytes())
            if entry["question"] != question:
                raise ValueError("it answers another question")
            return Reply(**entry["reply"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            logger.warning("%s: is damaged (%s: %s); asking again.", path, type(error).__name__, error)
            return None

    def write(self, question: Any, reply: Reply) -> None:
        """Keep a reply. Its file appears whole or not at all."""
        if self.folder is None:
            return
        path = self._path(question)
        entry = json.dumps({"reply": asdict(reply), "question": question}, ensure_ascii=False, indent=1)
        with new_file(path, path.with_name(f".{uuid.uuid4().hex}.part")) as file:
            file.write(entry.encode("utf-8", "backslashreplace"))

    def _path(self, question: Any) -> Path:
        key = _key(question)
        return Path(self.folder or "", key[:2], key[2:4], f"{key}.json")


def _key(question: Any) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()

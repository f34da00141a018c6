"""Answers from a model behind a chat API: OpenAI's own, vLLM, SGLang, `transformers serve` and whatever speaks it.

What fails in passing is asked again, with exponential backoff and full jitter; what was answered is kept by content
(data_gen/answer_cache.py), so that nothing is paid for twice.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from data_gen.annotators import ANNOTATORS
from data_gen.annotators.model import ModelAnnotator, chat, made_once
from data_gen.answer_cache import Reply, digest
from data_gen.chat_server import ChatServer, Transient, check_url
from data_gen.requests import Answer, EncodedImage, Rejected, Request
from llava_som.config_file import option

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 60
LONGEST_PAUSE_S = 600  # what a server may ask for with Retry-After
CHARACTERS_PER_TOKEN = 4  # of English text, for estimates


@ANNOTATORS.register("openai_compatible")
@dataclass(frozen=True, kw_only=True)
class OpenAICompatibleAnnotator(ModelAnnotator):
    """A model behind a chat API: OpenAI, vLLM, SGLang, transformers serve ...; the key stays in the environment."""

    transient_fields: ClassVar[frozenset[str]] = ModelAnnotator.transient_fields | {
        "base_url",  # where the model runs does not decide what it says
        "api_key_env",
        "max_in_flight",
        "timeout_s",
        "max_retries",
        "image_tokens",
        "price_per_million_prompt",
        "price_per_million_completion",
    }

    base_url: str | None = option(None, help="http(s)://host:port/v1; default: OPENAI_BASE_URL, else OpenAI's own")
    api_key_env: str = option("OPENAI_API_KEY", help="NAME of the variable with the key, which is sent to base_url")
    max_in_flight: int = option(16, help="requests under way at once")
    timeout_s: float = option(300.0, help="seconds without a word from the server before a request is sent again")
    max_retries: int = option(8, help="how often a request is sent again (8: some 90 s of waiting in the mean)")
    image_detail: Literal["auto", "low", "high"] | None = option(None, help="OpenAI's `detail` of pictures")
    extra: dict[str, Any] = option(factory=dict, help="more fields of the request body; null leaves one of ours out")
    image_tokens: int = option(765, help="tokens of one picture, for estimates (640x853 at OpenAI's high detail: 765)")
    price_per_million_prompt: float = option(0.0, help="USD for a million tokens read, for the cost")
    price_per_million_completion: float = option(0.0, help="USD for a million tokens written, for the cost")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_url is not None:
            if "@" in self.base_url:
                raise ValueError(
                    "base_url= holds a password, and options end up in files. Export the address as OPENAI_BASE_URL, "
                    "where user:password@ is allowed."
                )
            check_url("base_url", self.base_url)
        if not re.fullmatch("[A-Z][A-Z0-9_]*", self.api_key_env):  # perhaps the key itself, so it is not repeated
            raise ValueError("api_key_env takes the NAME of an environment variable, such as OPENAI_API_KEY.")
        for name, least in (("max_in_flight", 1), ("max_retries", 0), ("image_tokens", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {least}.")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s={self.timeout_s}: must be above 0.")

    @property
    def requests_in_flight(self) -> int:
        """As the user says."""
        return self.max_in_flight

    def answer(self, requests: Sequence[Request]) -> list[Answer | Rejected]:
        """Kept answers, or those of the server, one request after the other."""
        return [self._answer(request) for request in requests]

    def question(self, request: Request) -> dict[str, Any]:
        """The request body, with digests for pictures."""
        return self._body(request, digest)

    def estimate(self, request: Request) -> dict[str, float]:
        """Tokens and USD at most: a text token has 4 characters, the answer is as long as it may be, kept ones free."""
        if self.answers.read(self.question(request)) is not None:
            return super().estimate(request)
        texts = [request.system, *(e.answer for e in request.examples), *(m.text for m in request.messages)]
        words = sum(map(len, texts)) / CHARACTERS_PER_TOKEN
        prompt, completion = round(words) + self.image_tokens * (1 + len(request.examples)), self.longest(request)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "cost": self.cost(prompt, completion)}

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for so many tokens."""
        read, written = self.price_per_million_prompt, self.price_per_million_completion
        return (prompt_tokens * read + completion_tokens * written) / 1e6

    def describe(self) -> dict[str, Any]:
        """Model, sampling, and the server's address unless the environment gives it."""
        chosen = {"base_url": self.base_url, "image_detail": self.image_detail, "extra": self.extra or None}
        return {**super().describe(), **{key: value for key, value in chosen.items() if value is not None}}

    def close(self) -> None:
        """Try nothing again."""
        if "server" in vars(self):
            self.server.close()

    @made_once
    def server(self) -> ChatServer:
        """The connection of this process."""
        return ChatServer(self.base_url, self.api_key_env, self.timeout_s)

    def _answer(self, request: Request) -> Answer | Rejected:
        try:
            return self.answers.read_or_ask(self.question(request), lambda: self._ask(request)).result()
        except Rejected as rejected:
            return rejected

    def _ask(self, request: Request) -> Reply:
        """The server's reply, however many attempts it takes."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        attempts = Retrying(
            retry=retry_if_exception_type(Transient),
            stop=stop_after_attempt(1 + self.max_retries),
            wait=pause,
            sleep=self.server.wait,
            before_sleep=self._log_retry,
            reraise=True,
        )
        try:
            return attempts(self.server.complete, self._body(request, data_url))
        except Transient as error:
            tries = attempts.statistics["attempt_number"]
            raise self.server.gave_up(Rejected("server error", f"{error} (attempt {tries})")) from None

    def _body(self, request: Request, address: Callable[[EncodedImage], str]) -> dict[str, Any]:
        """The JSON of a chat completion request; messages of text alone are plain strings, which every server takes."""
        detail = {"detail": self.image_detail} if self.image_detail else {}
        messages = chat(request, lambda image: {"type": "image_url", "image_url": {"url": address(image), **detail}})
        for message in messages:
            if [part["type"] for part in message["content"]] == ["text"]:
                message["content"] = message["content"][0]["text"]
        body = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.longest(request),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": request.seed,
            **self.extra,
        }
        return {key: value for key, value in body.items() if value is not None}

    def _log_retry(self, state: RetryCallState) -> None:
        reason, seconds = state.outcome and state.outcome.exception(), state.upcoming_sleep
        logger.info("%s; trying again in %.1f s (%d of %d)", reason, seconds, state.attempt_number, self.max_retries)


def pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the server asked for, and a random share of 1, 2, 4 ... 60 s on top."""
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Transient) else 0.0
    return min(asked, LONGEST_PAUSE_S) + wait_random_exponential(max=LONGEST_BACKOFF_S)(state)


def data_url(image: EncodedImage) -> str:
    """A picture as a URL that holds it: its file's bytes as they are."""
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"

"""One OpenAI-compatible server as annotators see it: being let in, one attempt, and what went wrong in words.

The key comes from the environment and stays in this process: no option, file, log line or error holds it. A server may
repeat the key in an error message, so every text that comes from outside passes `redact`.
"""

from __future__ import annotations

import base64
import os
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from data_gen.answer_cache import Reply
from data_gen.requests import Rejected

if TYPE_CHECKING:
    import openai

HOSTED = "https://api.openai.com/v1"
GIVE_UP_AFTER = 10
"""Requests in a row without an answer after which the run stops, instead of rejecting every image that is left."""

PASSING = (408, 409, 425, 429)  # and 5xx: asking again may help
MISTAKEN_OPTIONS = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
BROKEN_OFF = ("abort", "error")  # finish reasons of servers that died under a request


class Transient(Exception):
    """This attempt failed, another may not.

    Attributes:
        retry_after: seconds the server asked to wait.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Message(BaseModel):
    """The part of a choice that was said."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One of the answers; we ask for one."""

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens read and written; some servers do not count."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0


class Completion(BaseModel):
    """What is needed of a chat completion. Lenient: servers differ in the rest, and some send null for usage."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


class ChatServer:
    """The client of one server, for all threads of a process.

    Args:
        base_url: http(s)://host[:port]/v1; None takes OPENAI_BASE_URL, which may hold user:password@, or OpenAI's own.
        api_key_env: name of the environment variable with the key. It may be unset, except for OpenAI's own server.
        timeout_s: longest silence of the server while it answers.

    Raises:
        ValueError: the key is missing or cannot be a key, or the environment's address cannot be one.
        ImportError: the openai package is missing.
    """

    def __init__(self, base_url: str | None, api_key_env: str, timeout_s: float) -> None:
        given = urlsplit(base_url or os.environ.get("OPENAI_BASE_URL") or HOSTED)
        self.url = given._replace(netloc=given.netloc.rpartition("@")[2]).geturl()
        check_url("OPENAI_BASE_URL", self.url)
        self.api_key_env = api_key_env
        self.stopped = threading.Event()
        self._failures = 0
        self._lock = threading.Lock()
        key = read_key(api_key_env)
        if not key and self.url == HOSTED:
            raise ValueError(
                f"{api_key_env} is not set. Export the API key under this name, name another variable with "
                "api_key_env=, or give the base_url= of a server of your own."
            )
        user, password = unquote(given.username or ""), unquote(given.password or "")
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._secrets = [key, user, password, basic]
        self._has_key = bool(key)
        headers = {"Authorization": f"Basic {basic}"} if user or password else {}
        self._client = connect(self.url, key or "none", headers, timeout_s)

    def complete(self, body: dict[str, Any]) -> Reply:
        """One attempt at a chat completion.

        Raises:
            Transient: too many requests, a fault of the server or of the line, or a reply that cannot be read.
            Rejected: the server refuses this request.
            ValueError: it would refuse every request: wrong key, no such model, an option it does not know.
            OSError: nothing is left to pay with, or the last requests were all refused.
        """
        import openai

        ask = self._client.chat.completions.with_raw_response.create
        try:  # extra_body goes out as it is; the client's walk through the messages takes a fifth of the time
            response = ask(model=body["model"], messages=[], extra_body=body)
        except openai.APIStatusError as error:
            raise self._refusal(error, body["model"]) from None
        except openai.APIConnectionError as error:
            cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if str(error.__cause__ or "") else ""
            raise Transient(self.redact(f"{error.message.rstrip('.')}{cause}")) from None
        reply = self._read(response.text)
        with self._lock:
            self._failures = 0
        return reply

    def gave_up(self, rejected: Rejected) -> Exception:
        """What to raise for a request without an answer: its rejection, or an OSError after too many in a row."""
        with self._lock:
            self._failures += 1
            if self._failures < GIVE_UP_AFTER:
                return rejected
        return self._stop(
            OSError(
                f"{self.url}: the last {GIVE_UP_AFTER} requests got no answer. The last one: {rejected}. What was "
                "answered is kept; run again when the server is well."
            )
        )

    def wait(self, seconds: float) -> None:
        """Sleep; a Transient when the server is given up meanwhile."""
        if self.stopped.wait(seconds):
            raise Transient("the run was stopped")

    def close(self) -> None:
        """Wake the threads that wait to try again; requests under way end by themselves."""
        self.stopped.set()

    def redact(self, text: str) -> str:
        """The text without key and password. One of less than 8 characters hides nothing and may be any word."""
        for secret in self._secrets:
            if len(secret) >= 8:
                text = text.replace(secret, "***")
        return text

    def _read(self, text: str) -> Reply:
        try:
            completion = Completion.model_validate_json(text)
        except ValidationError:
            start = self.redact(text)[:120]
            raise Transient(f"the reply is no chat completion: {start!r}") from None
        choice, usage = completion.choices[0], completion.usage or Usage()
        if choice.finish_reason in BROKEN_OFF:
            raise Transient(f"the server broke the answer off (finish_reason={choice.finish_reason})")
        refused = choice.message.refusal
        return Reply(
            text=self.redact(refused or choice.message.content or ""),
            end="content_filter" if refused else choice.finish_reason or "stop",
            prompt_tokens=usage.prompt_tokens or 0,
            completion_tokens=usage.completion_tokens or 0,
        )

    def _refusal(self, error: openai.APIStatusError, model: str) -> Exception:
        """The error a status code means to us."""
        status = error.status_code
        said = f"HTTP {status}: {self.redact(error.response.text.strip())[:300]}"
        if status == 401:  # what it says may hold a part of the key, so it is not repeated
            problem = "is not accepted" if self._has_key else "is not set, and the server wants a key"
            advice = "Export the right key, or name another variable with api_key_env="
            return self._stop(ValueError(f"{self.url}: {self.api_key_env} {problem}. {advice}."))
        if status == 403:
            return self._stop(ValueError(f"{self.url}: the key in {self.api_key_env} may not use {model!r}. {said}"))
        if status == 404:
            return self._stop(ValueError(f"{self.url} has no model {model!r}, or base_url lacks its /v1. {said}"))
        if error.code == "insufficient_quota":
            return self._stop(OSError(f"{self.url}: the account has nothing left to pay with. {said}"))
        if error.code in MISTAKEN_OPTIONS:
            advice = f"Leave the field out: extra={{{error.param}: null}}"
            return self._stop(ValueError(f"{self.url}: {said}. {advice}."))
        if status in PASSING or status >= 500:
            return Transient(said, retry_after(error.response.headers))
        return self.gave_up(Rejected("refused by the server", said))

    def _stop(self, error: Exception) -> Exception:
        self.stopped.set()
        return error


def connect(url: str, key: str, headers: dict[str, str], timeout_s: float) -> openai.OpenAI:
    """A client that does not retry by itself and keeps every connection open for the next request."""
    try:
        import httpx2
        import openai
    except ImportError as error:
        raise ImportError(f"openai_compatible needs the openai package: pip install openai ({error})") from None
    return openai.OpenAI(
        base_url=url,
        api_key=key,
        default_headers=headers,
        max_retries=0,
        timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
        http_client=openai.DefaultHttpxClient(
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        ),
    )


def check_url(name: str, url: str) -> None:
    """A ValueError for what is no server's address, or has a query: the HTTP client logs it, and keys stand there."""
    if "?" in url:
        raise ValueError(f"{name} holds a query, which logs would show. Put the key into the environment instead.")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        valid = False
    if not valid:
        raise ValueError(f"{name}={url}: must look like http://localhost:8000/v1.")


def read_key(variable: str) -> str:
    """The key in an environment variable; empty when it is not set.

    Raises:
        ValueError: it holds what no HTTP header can; sending it would put it into an error message.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{variable} holds characters that no key has. Export it again, without quotes or line breaks."
        )
    return key


def retry_after(headers: Any) -> float:
    """Seconds the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date); 0 if it does not."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return 0.0

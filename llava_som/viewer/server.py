"""A dataset on a local web address: the page, its lists a page at a time, its records and images one by one.

    GET /                       the page
    GET /api/index?...          one page of the records that a query admits (parameters: see `_index`)
    GET /api/record?number=7    one record in full
    GET /image/7/0              an image of a record

No address holds a path: an image is asked for by the number of its record, so what the dataset does not list cannot be
asked for. Only this machine is answered, unless another host is named.
"""

from __future__ import annotations

import json
import logging
import secrets
from bisect import bisect_left
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from .page import render_page
from .records import Dataset, Query

logger = logging.getLogger(__name__)

LIST_LENGTH = 50
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


class Answer(NamedTuple):
    """What is sent back."""

    content: bytes
    kind: str
    cache: str = "no-store"


class Viewer(ThreadingHTTPServer):
    """The server of one dataset; `with Viewer(...) as viewer: viewer.serve_forever()`.

    Args:
        dataset: what to show.
        host: the address to listen on; anything but this machine's own makes the data visible to others.
        port: 0 takes any free one.

    Raises:
        ValueError: the address cannot be listened on.
    """

    daemon_threads = True

    def __init__(self, dataset: Dataset, host: str = "127.0.0.1", port: int = 0) -> None:
        self.dataset, self.host = dataset, host
        self.edition = secrets.token_hex(4)  # images are cached by address: another server's image 7 is another image
        facets = dataset.facets
        known = {"title": dataset.name, "total": len(dataset), "rejected": facets["rejected"], "facets": facets}
        self.page = render_page({**known, "list_length": LIST_LENGTH}).encode()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"host={host} port={port}: {error}. Name another --port, or 0 for any free one.") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that stops listening, as it does to images that are no longer wanted, is nothing to report."""
        logger.debug("request of %s failed", client_address, exc_info=True)

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{self.host}:{self.server_address[1]}/"

    def link(self, number: int, position: int, file: Path) -> str:
        """The address of an image."""
        return f"image/{number}/{position}?edition={self.edition}"

    def admits(self, host_header: str) -> bool:
        """Whether a request was meant for this server: a foreign page may have its own name point at this machine."""
        name = urlsplit(f"//{host_header}").hostname
        return self.host not in _LOOPBACK or name in _LOOPBACK


class _Handler(BaseHTTPRequestHandler):
    server: Viewer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request; whatever is wrong with it is its sender's to mend."""
        try:
            status, answer = HTTPStatus.OK, self._answer()
        except (IndexError, FileNotFoundError):
            status, answer = HTTPStatus.NOT_FOUND, _json({"error": "There is nothing at this address."})
        except (ValueError, OSError) as error:
            status, answer = HTTPStatus.BAD_REQUEST, _json({"error": str(error)})
        self.send_response(status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.content)))
        self.send_header("Cache-Control", answer.cache)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(answer.content)

    def _answer(self) -> Answer:
        if not self.server.admits(self.headers.get("Host", "")):
            raise ValueError("This server answers only as localhost.")
        address = urlsplit(self.path)
        parameters = dict(parse_qsl(address.query))
        match address.path.split("/")[1:]:
            case [""]:
                return Answer(self.server.page, "text/html; charset=utf-8")
            case ["api", "index"]:
                return _json(_index(self.server, parameters))
            case ["api", "record"]:
                return _json(self.server.dataset.view(_number(parameters, "number"), self.server.link))
            case ["image", number, position]:
                content, kind = self.server.dataset.image(_natural(number), _natural(position))
                return Answer(content, kind, cache="private, max-age=86400")
        raise FileNotFoundError(address.path)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is the base class's)
        """To the log, where http.server would write on the terminal."""
        logger.debug(format, *args)


def _json(content: dict[str, Any]) -> Answer:
    return Answer(json.dumps(content).encode(), "application/json")


def _index(server: Viewer, parameters: Mapping[str, str]) -> dict[str, Any]:
    """One page of the list.

    Parameters: source, recipe, kind, min, max, q (see `Query`), and `offset` (position in the list) or `record` (a
    number: the page that holds it, or the first).

    Returns:
        {"matched": how many there are, "offset": of this page, "records": summaries, "position": of `record` in the
        list, or None}
    """
    dataset = server.dataset
    numbers = dataset.select(_query(parameters))
    position = None
    if "record" in parameters:
        at = bisect_left(numbers, _number(parameters, "record"))
        position = at if at < len(numbers) and numbers[at] == _number(parameters, "record") else None
    offset = _number(parameters, "offset", 0) if position is None else position - position % LIST_LENGTH
    page = numbers[offset : offset + LIST_LENGTH]
    return {
        "matched": len(numbers),
        "offset": offset,
        "records": [dataset.summary(number, server.link) for number in page],
        "position": position,
    }


def _query(parameters: Mapping[str, str]) -> Query:
    return Query(
        source=parameters.get("source", ""),
        recipe=parameters.get("recipe", ""),
        kind=parameters.get("kind", ""),
        min_tags=_number(parameters, "min", 0),
        max_tags=_number(parameters, "max") if "max" in parameters else None,
        text=parameters.get("q", ""),
    )


def _number(parameters: Mapping[str, str], name: str, default: int | None = None) -> int:
    if default is not None and name not in parameters:
        return default
    try:
        return _natural(parameters.get(name, ""))
    except ValueError as error:
        raise ValueError(f"{name}={error}") from None


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"{text!r}: a whole number from 0 is needed.")
    return int(text)

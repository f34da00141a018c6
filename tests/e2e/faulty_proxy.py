"""A chat server that fails as servers fail: a proxy before a real one, or a stand-in that answers by itself.

Real sockets, in a thread of its own. Which request meets which fault is planned by the order of arrival, so with a
seed the same number of requests meets the same faults.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import cycle
from random import Random
from urllib.parse import urlsplit

BEFORE = ("429", "500", "hang", "refuse")  # the request does not reach the server
AFTER = ("cut", "truncated")  # it was answered, and paid for, and the answer is lost
INSTEAD = ("not json", "empty", "no choices")
FAULTS = BEFORE + AFTER + INSTEAD

Sent = tuple[int, dict[str, str], bytes]  # status, headers, body


def completion(text: str, finish_reason: str = "stop", **message) -> Sent:
    """What a chat server sends."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}
    return as_json({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


def as_json(content, status: int = 200, **headers: str) -> Sent:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(content).encode()


def some_faults(rate: float, seed: int) -> Iterable[str]:
    """Endless: a fault for a share `rate` of the requests, of each kind in turn; "" for the others."""
    rng, kinds = Random(seed), cycle(FAULTS)
    while True:
        yield next(kinds) if rng.random() < rate else ""


class FaultyProxy:
    """Use in a `with` block; `url` is the base_url for clients.

    Args:
        upstream: base_url of the server behind; None when `answer` is the server.
        answer: from a request's JSON to what is sent back.
        plan: the fault of each request in order of arrival; "" and whatever comes after its end are served well. A
            fault may also be a `Sent` to be sent as it is.

    Attributes:
        requests: (headers, JSON) in order of arrival.
        counts: how often each fault happened; "served" and "paid" (what the server behind answered).
    """

    def __init__(
        self,
        upstream: str | None = None,
        answer: Callable[[dict], Sent] = lambda body: completion("1. cat"),
        plan: Iterable[str | Sent] = (),
        latency_s: float = 0.0,
    ) -> None:
        self.upstream = upstream
        self.answer = answer
        self.plan = iter(plan)
        self.latency_s = latency_s
        self.requests: list[tuple[dict[str, str], dict]] = []
        self.counts: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512), self._loop
        ).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *exception) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection lives on."""
        _, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((headers, json.loads(body)))
        fault = next(self.plan, "")
        self.counts[fault if isinstance(fault, str) and fault else "served"] += 1
        await asyncio.sleep(self.latency_s)
        if isinstance(fault, tuple):
            return await self._send(writer, fault)
        if fault == "hang":
            await reader.read()
        if fault in ("hang", "refuse"):
            return False
        return await self._send(writer, *await self._spoiled(fault, body))

    async def _spoiled(self, fault: str, body: bytes) -> tuple[Sent, bool]:
        """What to send for a request, and whether to cut the line in the middle of it."""
        match fault:
            case "429":
                return as_json({"error": {"message": "slow down"}}, 429, **{"Retry-After": "0.1"}), False
            case "500":
                return (500, {"Content-Type": "text/plain"}, b"Internal Server Error"), False
            case "not json":
                return (200, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"), False
            case "empty":
                return (200, {"Content-Type": "application/json"}, b""), False
            case "no choices":
                return as_json({"choices": []}), False
        status, headers, content = await self._passed_on(body) if self.upstream else self.answer(json.loads(body))
        self.counts["paid"] += status == 200
        if fault == "truncated":
            content = content[: len(content) // 2]
        return (status, headers, content), fault == "cut"

    async def _send(self, writer: asyncio.StreamWriter, sent: Sent, cut: bool = False) -> bool:
        status, headers, content = sent
        lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Fault'}", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content[: len(content) // 2 if cut else None])
        await writer.drain()
        return not cut

    async def _passed_on(self, body: bytes) -> Sent:
        """What the server behind sends; it closes the connection after it."""
        to = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(to.hostname, to.port)
        head = f"POST {to.path}/chat/completions HTTP/1.1\r\nHost: {to.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), {"Content-Type": "application/json"}, content

"""How much of a chat server's capacity is used: N requests under way, each answered after a fixed time.

The server is a process of its own and costs nothing but the wait, so what is missing from N / latency is what we take:
the annotator alone reading pictures, base64, JSON, HTTP and keeping answers; the whole pipeline also drawing scenes,
marking them, checking the lists and writing everything.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from data_gen.annotators.openai_compatible import OpenAICompatibleAnnotator
from data_gen.config import plan_run
from data_gen.requests import Answer, EncodedImage, Message, Request

MESSAGE = {"role": "assistant", "content": "1. A giraffe.\n2. A tree behind it."}
REPLY = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
    "usage": {"prompt_tokens": 900, "completion_tokens": 12},
}


def run(in_flight: int = 32, latency_s: float = 0.2, requests: int = 640, repeats: int = 3) -> dict:
    """Requests a second as a share of in_flight / latency: the best of the repeats, and then all answers kept."""
    asked = photo_requests(requests)
    with server(latency_s) as url, TemporaryDirectory() as folder:
        annotators = [
            OpenAICompatibleAnnotator(model="bench", base_url=url, max_in_flight=in_flight, cache=Path(folder, str(k)))
            for k in range(repeats)
        ]
        annotators[0].server.complete({"model": "bench", "messages": []})  # imports and the first connection
        seconds = [answer_all(annotator, asked) for annotator in annotators]
        kept = answer_all(annotators[0], asked)
    pipeline = run_pipeline()
    ideal = in_flight / latency_s
    return {
        "in_flight": in_flight,
        "latency_s": latency_s,
        "requests": requests,
        "image_kilobytes": round(len(asked[0].image.data) / 1000),
        "ideal_per_second": ideal,
        "per_second": [round(requests / taken, 1) for taken in seconds],
        "target_ratio": 0.9,
        "ratio": round(requests / min(seconds) / ideal, 3),
        "kept_answers_per_second": round(requests / kept),
        "pipeline": pipeline,
    }


def run_pipeline(in_flight: int = 32, latency_s: float = 0.5, images: int = 960) -> dict:
    """Images a second as a share of in_flight / latency, from when a tenth of them has come through."""
    with server(latency_s) as url, TemporaryDirectory() as folder:
        source = {"source": "scenes", "count": images, "objects": [2, 2], "size": 320}  # two things: what REPLY lists
        served = {"annotator": "openai_compatible", "model": "bench", "base_url": url, "max_in_flight": in_flight}
        run = plan_run({**source, **served, "out": folder})
        arrivals = []
        for entry in run.engine.entries(run, run.source.refs()):
            if entry["rejects"]:
                raise RuntimeError(f"an image was rejected, so its time means nothing: {entry['rejects']}")
            arrivals.append(time.perf_counter())
    warm, ideal = images // 10, in_flight / latency_s
    rate = (images - warm) / (arrivals[-1] - arrivals[warm - 1])
    return {
        "in_flight": in_flight,
        "latency_s": latency_s,
        "images": images,
        "ideal_per_second": ideal,
        "per_second": round(rate, 1),
        "target_ratio": 0.9,
        "ratio": round(rate / ideal, 3),
    }


def answer_all(annotator: OpenAICompatibleAnnotator, requests: list[Request]) -> float:
    """Seconds to answer all requests, from as many threads as the annotator wants."""
    start = time.perf_counter()
    with ThreadPoolExecutor(annotator.requests_in_flight) as threads:
        results = list(threads.map(lambda request: annotator.answer([request])[0], requests))
    taken = time.perf_counter() - start
    if not all(isinstance(result, Answer) for result in results):
        raise RuntimeError(f"not all requests were answered: {results}")
    return taken


def photo_requests(count: int) -> list[Request]:
    """Requests about one noisy 640x480 JPEG, each with a text of its own."""
    file = BytesIO()
    Image.effect_noise((640, 480), 30).convert("RGB").save(file, "JPEG", quality=75)
    image = EncodedImage(file.getvalue(), "image/jpeg")
    return [Request(image=image, messages=(Message("user", f"List the marks ({k})."),)) for k in range(count)]


@contextmanager
def server(latency_s: float) -> Iterator[str]:
    """The base_url of a chat server that takes its time and nothing else."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(latency_s, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def serve(latency_s: float, tell_port: Connection) -> None:
    """Serve until the process is ended."""
    content = json.dumps(REPLY).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
                await reader.readexactly(length)
                await asyncio.sleep(latency_s)
                writer.write(head + content)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        listening = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=512, limit=1 << 20)
        tell_port.send(listening.sockets[0].getsockname()[1])
        await listening.serve_forever()

    asyncio.run(main())

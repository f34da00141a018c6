"""The annotator against a real server, `transformers serve`, and a line that fails for a third of the requests."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest

from data_gen.annotators.openai_compatible import OpenAICompatibleAnnotator
from data_gen.requests import Answer, EncodedImage, Example, Message, Rejected, Request
from llava_som.checkpoints import export_llava
from tests.e2e.faulty_proxy import AFTER, FAULTS, FaultyProxy, some_faults
from tests.tiny import drawn_image, tiny_model

pytestmark = pytest.mark.e2e

IMAGES = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(base_url, model) of a tiny `llava` checkpoint behind `transformers serve`."""
    folder = tmp_path_factory.mktemp("served")
    model, processor = tiny_model()
    model.generation_config.eos_token_id = list(range(11, 300, 6))  # random weights soon say one of so many
    export_llava(model, processor, folder / "tiny")
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder / "tiny")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://localhost:{port}/health", process, folder / "log")
        yield f"http://localhost:{port}/v1", str(folder / "tiny")
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url, process, log, seconds=120):
    for _ in range(seconds * 5):
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(f"no server after {seconds} s:\n{log.read_text()}")


def picture(seed):
    file = BytesIO()
    drawn_image(seed).save(file, "PNG")
    return EncodedImage(file.getvalue(), "image/png")


def requests(count=IMAGES):
    example = Example(picture(1000), "1. red circle")
    return [
        Request(
            image=picture(k), messages=(Message("user", "List."),), examples=(example,) * (k % 2), max_tokens=24, seed=k
        )
        for k in range(count)
    ]


def answer_all(annotator, asked):
    """As the pipeline does: a thread for each request under way."""
    with ThreadPoolExecutor(annotator.requests_in_flight) as threads:
        return list(threads.map(lambda request: annotator.answer([request])[0], asked))


def said(results):
    return [(type(r), r.answer if isinstance(r, Rejected) else r.text) for r in results]


def test_a_third_of_the_requests_fail_and_no_answer_is_lost_or_paid_for_twice(served, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    base_url, model = served
    options = {"model": model, "max_in_flight": 8, "timeout_s": 5.0}
    quiet = answer_all(OpenAICompatibleAnnotator(base_url=base_url, **options), requests())
    with FaultyProxy(base_url, plan=some_faults(0.3, seed=4)) as proxy:
        annotator = OpenAICompatibleAnnotator(base_url=proxy.url, max_retries=12, cache=tmp_path, **options)
        results = answer_all(annotator, requests())
        counts = Counter(proxy.counts)
        assert said(results) == said(quiet)
        assert {type(result) for result in results} == {Answer, Rejected}
        assert {result.kind for result in results if isinstance(result, Rejected)} == {"answer cut short"}
        assert all(r.prompt_tokens > 16 and 0 < r.completion_tokens <= 24 for r in results if isinstance(r, Answer))

        faults = sum(counts[fault] for fault in FAULTS)
        assert 0.2 < faults / len(proxy.requests) < 0.4 and all(counts[fault] for fault in FAULTS)
        assert counts["served"] == IMAGES
        assert counts["paid"] == IMAGES + sum(counts[fault] for fault in AFTER)  # only what was lost on the way

        again = OpenAICompatibleAnnotator(base_url=proxy.url, cache=tmp_path, **options)
        assert said(answer_all(again, requests())) == said(results)
        assert proxy.counts == counts  # nothing went over the line


def test_a_run_whose_retries_did_not_suffice_asks_only_for_the_rest(served, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    base_url, model = served
    options = {"model": model, "max_in_flight": 8, "timeout_s": 5.0, "cache": tmp_path}
    with FaultyProxy(base_url, plan=some_faults(0.3, seed=1)) as proxy:
        first = answer_all(OpenAICompatibleAnnotator(base_url=proxy.url, max_retries=0, **options), requests())
        failed = [r for r in first if isinstance(r, Rejected) and r.kind == "server error"]
        assert len(first) == IMAGES and 0.15 * IMAGES < len(failed) < 0.45 * IMAGES
        assert all("(attempt 1)" in str(rejected) for rejected in failed)
        proxy.plan = iter(())
        proxy.requests.clear()
        second = answer_all(OpenAICompatibleAnnotator(base_url=proxy.url, **options), requests())
    assert len(proxy.requests) == len(failed)
    assert not [r for r in second if isinstance(r, Rejected) and r.kind == "server error"]


def test_a_server_that_refuses_every_request_stops_the_run(served):
    annotator = OpenAICompatibleAnnotator(base_url=served[0], model="another")  # this server has one model
    with pytest.raises(OSError, match=r"last 10 requests got no answer.*HTTP 400.*another"):
        annotator.answer(requests(12))

import dataclasses
import logging
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from data_gen.annotators.ground_truth import GroundTruthAnnotator
from data_gen.annotators.openai_compatible import OpenAICompatibleAnnotator
from data_gen.answer_cache import AnswerCache, Reply
from data_gen.chat_server import GIVE_UP_AFTER, ChatServer, Transient, retry_after
from data_gen.requests import Answer, EncodedImage, Example, Message, Rejected, Request
from tests.e2e.faulty_proxy import FAULTS, FaultyProxy, as_json, completion

KEY = "sk-test-0123456789abcdef"
PICTURE = EncodedImage(b"a picture", "image/jpeg")
CAT = Answer("1. cat", 40, 7)


def request(text="List the marks.", **changes):
    return Request(image=PICTURE, messages=(Message("user", text),), **changes)


@pytest.fixture
def waits(monkeypatch):
    """A clock that stands still: how long each wait would have been."""
    waited = []
    monkeypatch.setattr(ChatServer, "wait", lambda self, seconds: waited.append(seconds))
    return waited


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def annotator(proxy, **options):
    return OpenAICompatibleAnnotator(**{"model": "tiny", "base_url": proxy.url, **options})


def ask(annotator, asked=None):
    return annotator.answer([asked or request()])[0]


def test_the_request_body_is_exactly_this():
    asked = Request(
        image=PICTURE,
        messages=(Message("user", ""), Message("assistant", "1. cat"), Message("user", "Mark 2 is missing.")),
        system="You see marks.",
        examples=(Example(EncodedImage(b"\x89PNG", "image/png"), "1. dog"),),
        max_tokens=200,
        seed=5,
    )
    with FaultyProxy() as proxy:
        assert (
            ask(annotator(proxy, top_p=0.9, image_detail="high", extra={"temperature": None, "top_k": 4}), asked) == CAT
        )
    headers, body = proxy.requests[0]
    assert body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "You see marks."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "high"}}
                ],
            },
            {"role": "assistant", "content": "1. dog"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,YSBwaWN0dXJl", "detail": "high"}}
                ],
            },
            {"role": "assistant", "content": "1. cat"},
            {"role": "user", "content": "Mark 2 is missing."},
        ],
        "max_completion_tokens": 200,
        "top_p": 0.9,
        "seed": 5,
        "top_k": 4,
    }
    assert headers["user-agent"].startswith("OpenAI/Python")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_in_passing_is_asked_again(fault, waits):
    with FaultyProxy(plan=[fault]) as proxy:
        assert ask(annotator(proxy, timeout_s=0.3)) == CAT
    assert len(proxy.requests) == 2
    assert len(waits) == 1 and 0 <= waits[0] <= 1.1


def test_waits_grow_at_random_until_the_retries_are_spent(waits):
    with FaultyProxy(plan=["500"] * 9) as proxy:
        rejected = ask(annotator(proxy))
    assert str(rejected) == "server error: HTTP 500: Internal Server Error (attempt 9)"
    assert rejected.kind == "server error" and len(proxy.requests) == 9
    assert all(0 <= wait <= bound for wait, bound in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60], strict=True))
    assert len(set(waits)) == 8


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("2.5", 2.5), ("soon", 0), ("-3", 0), ("1e9", 600)])
def test_a_server_is_left_alone_as_long_as_it_asks(waits, header, seconds):
    busy = as_json({"error": {"message": "slow down"}}, 429, **{"Retry-After": header})
    with FaultyProxy(plan=[busy]) as proxy:
        assert ask(annotator(proxy)) == CAT
    assert seconds <= waits[0] <= seconds + 1


def test_other_forms_of_retry_after():
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert 58 < retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) <= 60
    assert retry_after({}) == 0


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        (
            as_json({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401),
            ValueError,
            "OPENAI_API_KEY is not set",
        ),
        (as_json({"error": {"message": "not in your country"}}, 403), ValueError, "not in your country"),
        (as_json({"error": {"message": "no such model"}}, 404), ValueError, "has no model 'tiny'"),
        (as_json({"error": {"message": "empty", "code": "insufficient_quota"}}, 429), OSError, "nothing left to pay"),
        (
            as_json({"error": {"message": "no", "code": "unsupported_value", "param": "temperature"}}, 400),
            ValueError,
            r"extra=\{temperature: null\}",
        ),
    ],
)
def test_what_no_request_can_pass_stops_the_run(sent, error, words):
    with FaultyProxy(plan=[sent]) as proxy, pytest.raises(error, match=words):
        ask(annotator(proxy))
    assert len(proxy.requests) == 1


def test_a_refused_picture_is_one_reject():
    refused = as_json({"error": {"message": "against our policy", "code": "content_policy"}}, 400)
    with FaultyProxy(plan=[refused]) as proxy:
        first, second = annotator(proxy).answer([request("a"), request("b")])
    assert first.kind == "refused by the server" and "against our policy" in str(first)
    assert second == CAT


@pytest.mark.parametrize(
    ("sent", "kind", "text"),
    [
        (completion("1. ca", "length"), "answer cut short", "1. ca"),
        (completion("", "content_filter"), "refused by the server", ""),
        (completion(None, refusal="I cannot look at people."), "refused by the server", "I cannot look at people."),
    ],
)
def test_an_answer_that_is_none_is_rejected_and_kept(tmp_path, sent, kind, text):
    with FaultyProxy(plan=[sent]) as proxy:
        results = [ask(annotator(proxy, cache=tmp_path)) for _ in range(2)]
    assert [(r.kind, r.answer) for r in results] == [(kind, text)] * 2
    assert len(proxy.requests) == 1


def test_an_answer_the_server_broke_off_is_asked_again(waits):
    with FaultyProxy(plan=[completion("1. ca", "abort")]) as proxy:
        assert ask(annotator(proxy)) == CAT


def test_a_server_that_is_down_stops_the_run_instead_of_rejecting_all_images(waits):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    asking = OpenAICompatibleAnnotator(model="tiny", base_url=url, max_retries=1)
    rejected = [ask(asking, request(str(k))) for k in range(GIVE_UP_AFTER - 1)]
    assert {r.kind for r in rejected} == {"server error"} and "Connection refused" in str(rejected[0])
    with pytest.raises(OSError, match=f"last {GIVE_UP_AFTER} requests got no answer.*Connection refused"):
        ask(asking)


def test_close_wakes_what_waits():
    busy = as_json({}, 429, **{"Retry-After": "500"})
    with FaultyProxy(plan=[busy]) as proxy, ThreadPoolExecutor(1) as threads:
        asking = annotator(proxy)
        result = threads.submit(ask, asking)
        while not proxy.counts:
            time.sleep(0.01)
        asking.close()
        assert result.result(timeout=5).kind == "server error"


def test_nothing_is_paid_for_twice(tmp_path):
    with FaultyProxy() as proxy:
        assert ask(annotator(proxy, cache=tmp_path)) == CAT
        assert ask(annotator(proxy, cache=tmp_path, max_retries=0, base_url=proxy.url + "/")) == CAT
        assert len(proxy.requests) == 1
        others = {"seed": 1}, {"max_tokens": 9}, {"system": "Look."}, {"image": EncodedImage(b"x", "image/png")}
        for change in others:
            ask(annotator(proxy, cache=tmp_path), dataclasses.replace(request(), **change))
        ask(annotator(proxy, cache=tmp_path, temperature=0.7))
        ask(annotator(proxy, cache=tmp_path, model="other"))
    assert len(proxy.requests) == 7
    files = [file.relative_to(tmp_path).parts for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 7 and all(len(parts) == 3 and parts[2].startswith(parts[0] + parts[1]) for parts in files)


@pytest.mark.parametrize(
    "damage", ["", "{", '{"reply": {"text": 1}}', '{"reply": {"text": "x"}, "question": "another"}']
)
def test_a_damaged_answer_is_asked_again_and_mended(tmp_path, damage, caplog):
    with FaultyProxy() as proxy:
        ask(annotator(proxy, cache=tmp_path))
        (file,) = tmp_path.rglob("*.json")
        whole = file.read_text()
        file.write_text(damage)
        assert ask(annotator(proxy, cache=tmp_path)) == CAT
    assert len(proxy.requests) == 2 and file.read_text() == whole
    assert "is damaged" in caplog.text


def test_the_same_question_at_the_same_time_is_asked_once(tmp_path):
    with FaultyProxy(latency_s=0.2) as proxy, ThreadPoolExecutor(8) as threads:
        asking = annotator(proxy, cache=tmp_path)
        assert list(threads.map(lambda _: ask(asking), range(8))) == [CAT] * 8
    assert len(proxy.requests) == 1


def test_those_who_wait_for_an_answer_share_its_error_and_the_next_one_asks():
    cache, entered, release = AnswerCache(None), threading.Event(), threading.Event()

    def fail():
        entered.set()
        release.wait(5)
        raise Transient("down")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.read_or_ask, {"q": 1}, fail)
        entered.wait(5)
        second = threads.submit(cache.read_or_ask, {"q": 1}, lambda: pytest.fail("asked twice"))
        time.sleep(0.05)
        release.set()
        for future in (first, second):
            with pytest.raises(Transient, match="down"):
                future.result()
    assert cache.read_or_ask({"q": 1}, lambda: Reply("up")).text == "up"


def test_many_writers_of_one_answer_leave_one_whole_file(tmp_path):
    reply = Reply("1. cat\udc80 → ok", prompt_tokens=3)  # text that is no UTF-8 either
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: AnswerCache(tmp_path).write({"q": 1}, reply), range(64)))
    assert [file.suffix for file in tmp_path.rglob("*") if file.is_file()] == [".json"]
    assert AnswerCache(tmp_path).read({"q": 1}) == reply


def test_secrets_stay_in_the_environment(tmp_path, monkeypatch, caplog, waits):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for logger in ("openai", "httpx2", "httpcore2", "data_gen"):
        caplog.set_level(logging.DEBUG, logger)
    tells = [
        (500, {"Content-Type": "text/plain"}, f"bad header: Bearer {KEY}".encode()),
        completion(f"1. a paper that says {KEY}"),
        as_json({"error": {"message": f"{KEY} is blocked"}}, 403),
        as_json({"error": {"message": f"Incorrect API key provided: {KEY[:10]}***"}}, 401),
    ]
    with FaultyProxy(plan=tells) as proxy:
        asking = annotator(proxy, cache=tmp_path)
        assert ask(asking).text == "1. a paper that says ***"
        errors = []
        for text in ("a", "b"):
            with pytest.raises(ValueError) as error:
                ask(asking, request(text))
            errors.append(error.getrepr(style="long", chain=True, showlocals=False))
        assert proxy.requests[0][0]["authorization"] == f"Bearer {KEY}"
    shown = [
        repr(asking),
        str(pickle.dumps(asking)),
        str(dataclasses.asdict(asking)),
        str(asking.describe()),
        caplog.text,
    ]
    shown += [
        str(asking.question(request())),
        *map(str, errors),
        *(file.read_text() for file in tmp_path.rglob("*.json")),
    ]
    assert "HTTP 500" in caplog.text and "http" in caplog.text  # the loggers did speak
    assert not [text for text in shown if KEY[:10] in text]


def test_a_password_comes_from_the_environment_and_leaves_no_trace(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    with FaultyProxy() as proxy:
        monkeypatch.setenv("OPENAI_BASE_URL", proxy.url.replace("//", "//marks:pass%40word@"))
        assert ask(OpenAICompatibleAnnotator(model="tiny")) == CAT
        assert proxy.requests[0][0]["authorization"] == "Basic bWFya3M6cGFzc0B3b3Jk"
    assert "127.0.0.1" in caplog.text
    assert "pass%40word" not in caplog.text and "bWFya3M6" not in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": f"http://user:{KEY}@host/v1"}, "OPENAI_BASE_URL"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "holds a query"),
        ({"api_key_env": KEY}, "NAME of an environment variable"),
        ({"base_url": "localhost:8000"}, "must look like http"),
        ({"base_url": "http://host:99999/v1"}, "must look like http"),
        ({"max_in_flight": 0}, "max_in_flight=0"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"temperature": -1.0}, "temperature=-1"),
        ({"top_p": 0.0}, "top_p=0"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"model": ""}, "model="),
    ],
)
def test_wrong_options_are_refused_without_repeating_a_secret(options, words):
    with pytest.raises(ValueError, match=words) as error:
        OpenAICompatibleAnnotator(**{"model": "tiny", **options})
    assert KEY not in str(error.value)


@pytest.mark.parametrize("url", ["localhost:8000", f"http://user:{KEY}@host/v1?x=1", f"http://user:{KEY}@[host/v1"])
def test_a_wrong_address_in_the_environment_is_refused_too(monkeypatch, url):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ValueError, match=r"OPENAI_BASE_URL|IPv6") as error:
        ask(OpenAICompatibleAnnotator(model="tiny"))
    assert KEY not in str(error.value)


@pytest.mark.parametrize(("key", "words"), [(None, "OPENAI_API_KEY is not set"), ("sk-“0123”", "no key has")])
def test_a_missing_or_mangled_key_is_said_before_anything_is_sent(monkeypatch, key, words):
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match=words) as error:
        ask(OpenAICompatibleAnnotator(model="gpt-4o"))
    assert key is None or key not in str(error.value)


def test_only_options_travel_to_another_process(tmp_path):
    with FaultyProxy() as proxy:
        used = annotator(proxy, cache=tmp_path)
        ask(used)
        arrived = pickle.loads(pickle.dumps(used))
        assert arrived == used and set(vars(arrived)) == {field.name for field in dataclasses.fields(used)}
        assert ask(arrived, request("another")) == CAT
    assert used.is_shared and used.requests_in_flight == 16 and used.requests_per_call == 1


def test_the_estimate_is_an_upper_bound_and_what_is_kept_is_free(tmp_path):
    asked = request("x" * 400, system="y" * 40, examples=(Example(PICTURE, "z" * 80),), max_tokens=300)
    prices = {"price_per_million_prompt": 2.0, "price_per_million_completion": 10.0}
    with FaultyProxy() as proxy:
        asking = annotator(proxy, cache=tmp_path, image_tokens=100, **prices)
        assert asking.estimate(asked) == {
            "prompt_tokens": 330,
            "completion_tokens": 300,
            "cost": pytest.approx(0.00366),
        }
        assert not proxy.requests
        ask(asking, asked)
        assert asking.estimate(asked) == {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}
    assert asking.cost(1_000_000, 100_000) == 3.0


def test_the_card_says_what_decides_the_answers():
    described = OpenAICompatibleAnnotator(model="m", base_url="http://host/v1", top_p=0.5).describe()
    assert described == {"model": "m", "temperature": 0.0, "top_p": 0.5, "base_url": "http://host/v1"}
    decides = {field.name for field in dataclasses.fields(OpenAICompatibleAnnotator)}
    decides -= OpenAICompatibleAnnotator.transient_fields
    assert decides == {"model", "temperature", "top_p", "max_tokens", "image_detail", "extra"}


def test_the_annotation_itself_answers_or_says_what_it_lacks():
    answered, rejected = GroundTruthAnnotator().answer(
        [request(truth="1. cat"), request(no_truth="no name for mark 2")]
    )
    assert answered == Answer("1. cat") and "no name for mark 2" in str(rejected)
    assert isinstance(rejected, Rejected) and GroundTruthAnnotator().estimate(request())["cost"] == 0

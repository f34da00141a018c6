import multiprocessing
import os
import signal
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from PIL import Image

from data_gen.annotators.base import Annotator
from data_gen.engines.processes import batched, in_processes, stream
from data_gen.requests import Answer, EncodedImage, Message, Rejected, Request, Turn
from data_gen.stages import hold

PICTURE = EncodedImage(b"", "image/png")


@dataclass(frozen=True, kw_only=True)
class Echo(Annotator):
    """Repeats the last message; refuses "no"; remembers how many requests came together."""

    def answer(self, requests):
        BATCHES.append(len(requests))
        texts = [request.messages[-1].text for request in requests]
        return [Rejected("refused", "it said no", "NO") if text == "no" else Answer(text, 3, 2) for text in texts]


BATCHES: list[int] = []


def asking(*questions):
    heard = []
    for question in questions:
        heard.append((yield Request(image=PICTURE, messages=(Message("user", question),))).text)
    return [Turn("gpt", " ".join(heard))]


def broken():
    yield Request(image=PICTURE, messages=(Message("user", "x"),))
    raise IndexError("oops")


def test_conversations_of_different_lengths_run_side_by_side():
    BATCHES.clear()
    outcomes = hold([asking("a"), asking("b", "c"), asking(), asking("d", "no", "e"), broken()], Echo())
    assert [[turn.text for turn in outcome.turns] for outcome in outcomes[:3]] == [["a"], ["b c"], [""]]
    assert isinstance(outcomes[3].error, Rejected) and outcomes[3].error.answer == "NO"
    assert isinstance(outcomes[4].error, IndexError)
    assert BATCHES == [4, 2]  # the one without a question never waited, the broken and the short ones have left
    assert [outcome.prompt_tokens for outcome in outcomes] == [3, 6, 0, 3, 3]


def test_an_annotator_that_cannot_work_stops_everything():
    class Down(Echo):
        def answer(self, requests):
            raise OSError("no server")

    with pytest.raises(OSError, match="no server"):
        hold([asking("a")], Down())


def double(batch):
    return [2 * item for item in batch]


def fail_at_7(batch):
    if 7 in batch:
        raise OSError("disk full")
    return batch


def test_processes_give_what_one_process_gives_whatever_the_order():
    serial = list(in_processes(double, batched(range(50), 4), workers=1))
    assert serial == [2 * item for item in range(50)]
    assert Counter(in_processes(double, batched(range(50), 4), workers=2)) == Counter(serial)


def test_an_error_of_a_worker_comes_out_as_it_is():
    with pytest.raises(OSError, match="disk full"):
        list(in_processes(fail_at_7, batched(range(500), 1), workers=2))


class NoCuda(ImportError):
    """Wants an argument that it does not hand on, so it cannot be unpickled."""

    def __init__(self, device, advice):
        super().__init__(f"{device}: {advice}")


def fail_strangely(batch):
    raise NoCuda("cuda:7", "there is no such GPU")


def test_an_error_that_does_not_survive_a_pickle_comes_out_with_its_words():
    """The pool would take it for the death of a worker."""
    with pytest.raises(ImportError, match="NoCuda: cuda:7: there is no such GPU"):
        list(in_processes(fail_strangely, [[1]], workers=2))


def die(batch):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told_of():
    with pytest.raises(OSError, match=r"worker process died.*fewer workers"):
        list(in_processes(die, [[1]], workers=2))


def test_an_engine_that_was_closed_has_ended_what_it_started():
    results = in_processes(double, batched(range(500), 1), workers=2)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert not multiprocessing.active_children()
    assert not list(in_processes(double, [], workers=2))


class Immediately(Executor):
    def submit(self, stage, batch):
        future = Future()
        future.set_result(stage(batch))
        return future


def test_what_has_finished_does_not_wait_for_batches_that_come_slowly():
    taken = []
    results = stream(Immediately(), double, ([number] for number in range(9) if not taken.append(number)), under_way=5)
    assert (next(results), taken) == (0, [0])
    assert (next(results), taken) == (2, [0, 1])


def test_only_so_much_is_under_way():
    taken = []

    def batches():
        for number in range(100):
            taken.append(number)
            yield [number]

    with ThreadPoolExecutor(2) as threads:
        results = stream(threads, double, batches(), under_way=5)
        next(results)
        assert len(taken) <= 10
        assert sorted([0, *results])[-1] == 198


def test_an_encoded_image_opens_as_what_was_encoded(tmp_path):
    Image.new("RGB", (4, 3), "red").save(tmp_path / "a.png")
    image = EncodedImage.read(tmp_path / "a.png")
    assert image.media_type == "image/png" and image.open().getpixel((3, 2)) == (255, 0, 0)

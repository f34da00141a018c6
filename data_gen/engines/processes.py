"""The embedded engine: a pool of processes marks images; threads ask an annotator that has a model or a server."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from data_gen.engines import ENGINES
from data_gen.engines.base import Engine
from data_gen.engines.errors import portable
from llava_som.interrupts import interrupts_held_back

if TYPE_CHECKING:
    from data_gen.config import Run
    from data_gen.journal import Entry
    from data_gen.sources.base import ImageRef

T = TypeVar("T")
E = TypeVar("E", bound=Executor)
UNDER_WAY = 4  # tasks of a worker that are handed over before it needs them


@ENGINES.register("processes")
@dataclass(frozen=True, kw_only=True)
class ProcessEngine(Engine):
    """`workers` processes of this machine."""

    def entries(self, run: Run, refs: Sequence[ImageRef]) -> Generator[Entry, None, None]:
        """Marked by the processes; annotated there too, unless the annotator is shared by all."""
        from data_gen.stages import Annotate, marking_stage

        marking = in_processes(marking_stage(run), batched(refs, 1), run.config.workers)
        annotate, annotator = Annotate(run), run.annotator
        if not annotator.is_shared:
            yield from marking
            return
        with closing(marking) as marked, ending(ThreadPoolExecutor(annotator.requests_in_flight)) as threads:
            batches = batched(marked, annotator.requests_per_call)
            try:
                yield from stream(threads, annotate, batches, 2 * annotator.requests_in_flight)
            finally:
                annotator.close()  # what waits to try again need not


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def in_processes(
    stage: Callable[[Sequence[Any]], list[T]], batches: Iterable[Sequence[Any]], workers: int
) -> Generator[T, None, None]:
    """What a stage makes of every batch: in this process for one worker, otherwise in new ones.

    Raises:
        OSError: a worker was killed, or could not start. Whatever the stage raises comes out too.
    """
    if workers == 1:
        for batch in batches:
            yield from stage(batch)
        return
    waiting = iter(batches)
    if (first := next(waiting, None)) is None:
        return
    context = multiprocessing.get_context("spawn")  # a forked process must not use CUDA or inherit threads' locks
    with ending(ProcessPoolExecutor(workers, context, initializer=_adopt, initargs=(stage,))) as pool:
        try:
            with interrupts_held_back():
                for _ in range(workers):
                    pool.submit(int)  # each starts a process
            yield from stream(pool, _adopted_stage, chain([first], waiting), UNDER_WAY * workers)
        except BrokenProcessPool as error:
            raise OSError(
                "A worker process died, most likely killed for lack of memory: use fewer workers; the run resumes. If "
                "none came up at all, call from under `if __name__ == '__main__':` in a script of your own."
            ) from error


def stream(
    executor: Executor, stage: Callable[[Any], list[T]], batches: Iterable[Sequence[Any]], under_way: int
) -> Iterator[T]:
    """Results as they finish, with at most `under_way` batches handed over.

    What has finished is yielded whenever a batch was taken, so batches that come slowly do not hold it back.
    """
    pending: set[Future[list[T]]] = set()
    for batch in batches:
        pending.add(executor.submit(stage, batch))
        patience = 0 if len(pending) < under_way else None
        done, pending = wait(pending, patience, return_when=FIRST_COMPLETED)
        for future in done:
            yield from future.result()
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield from future.result()


@contextmanager
def ending(executor: E) -> Iterator[E]:
    """The executor; when the block ends, early or not, what it has begun is waited for and the rest dropped."""
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


_adopted: dict[str, Callable[[Any], list[Any]]] = {}  # what this worker process does, sent to it once


def _adopt(stage: Callable[[Any], list[Any]]) -> None:
    _adopted["stage"] = stage
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on writing beside the run that resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers adopt a stage
    parent.join()
    os._exit(1)


def _adopted_stage(batch: Sequence[Any]) -> list[Any]:
    try:
        return _adopted["stage"](batch)
    except SystemExit:  # SIGTERM: the file that was half written is gone by now
        os._exit(1)
    except Exception as error:
        raise portable(error) from None

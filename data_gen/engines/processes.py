"""The embedded engine: a pool of processes marks images; threads ask an annotator that has a model or a server."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from data_gen.engines import ENGINES
from data_gen.engines.base import Engine

if TYPE_CHECKING:
    from data_gen.config import Run
    from data_gen.journal import Entry
    from data_gen.sources.base import ImageRef

T = TypeVar("T")
UNDER_WAY = 4  # tasks of a worker that are handed over before it needs them


@ENGINES.register("processes")
@dataclass(frozen=True, kw_only=True)
class ProcessEngine(Engine):
    """`workers` processes of this machine."""

    def entries(self, run: Run, refs: Sequence[ImageRef]) -> Iterator[Entry]:
        """Marked by the processes; annotated there too, unless the annotator is shared by all."""
        from data_gen.stages import Annotate, MarkImages

        annotate, annotator = Annotate(run), run.annotator
        if not annotator.is_shared:
            yield from in_processes(Chain((MarkImages(run), annotate)), batched(refs, 1), run.config.workers)
            return
        marked = in_processes(MarkImages(run), batched(refs, 1), run.config.workers)
        batches = batched(marked, annotator.requests_per_call)
        with ThreadPoolExecutor(annotator.requests_in_flight) as threads:
            try:
                yield from stream(threads, annotate, batches, 2 * annotator.requests_in_flight)
            finally:
                annotator.close()  # what waits to try again need not


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@dataclass(frozen=True)
class Chain:
    """Stages one after the other, as one."""

    stages: tuple[Callable[[Sequence[Any]], list[Any]], ...]

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        """The batch through every stage."""
        for stage in self.stages:
            batch = stage(batch)
        return list(batch)


def in_processes(
    stage: Callable[[Sequence[Any]], list[T]], batches: Iterable[Sequence[Any]], workers: int
) -> Iterator[T]:
    """What a stage makes of every batch: in this process for one worker, otherwise in new ones."""
    if workers == 1:
        for batch in batches:
            yield from stage(batch)
        return
    context = multiprocessing.get_context("spawn")  # a forked process must not use CUDA or inherit threads' locks
    with ProcessPoolExecutor(workers, context, initializer=_adopt, initargs=(stage,)) as pool:
        try:
            yield from stream(pool, _adopted_stage, batches, UNDER_WAY * workers)
        except BrokenProcessPool as error:
            raise OSError(
                "A worker process died, perhaps for lack of memory. Use fewer workers; the run resumes."
            ) from error


def stream(
    executor: Executor, stage: Callable[[Any], list[T]], batches: Iterable[Sequence[Any]], under_way: int
) -> Iterator[T]:
    """Results as they finish, with at most `under_way` batches handed over; when it ends early, the rest is dropped."""
    waiting = iter(batches)
    pending: set[Future[list[T]]] = set()
    try:
        while True:
            pending |= {executor.submit(stage, batch) for batch in islice(waiting, under_way - len(pending))}
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


_adopted: dict[str, Callable[[Any], list[Any]]] = {}  # what this worker process does, sent to it once


def _adopt(stage: Callable[[Any], list[Any]]) -> None:
    _adopted["stage"] = stage
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on writing beside the run that resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers adopt a stage
    parent.join()
    os._exit(1)


def _adopted_stage(batch: Sequence[Any]) -> list[Any]:
    return _adopted["stage"](batch)

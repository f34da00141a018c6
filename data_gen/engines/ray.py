"""The engine beyond one machine: the same stages as actors of a Ray Data pipeline (https://docs.ray.io/en/latest/data).

Marking runs in `workers` actors, on GPUs where the source has a segmenter; an annotator with a server or a model of its
own runs in one asynchronous actor that keeps as many requests under way as the annotator allows. Images, output and the
folder the run was started in have to be on a file system that all nodes share.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.engines import ENGINES
from data_gen.engines.base import Engine
from data_gen.engines.errors import portable
from data_gen.engines.processes import batched
from llava_som.config_file import option
from llava_som.interrupts import handlers_kept

if TYPE_CHECKING:
    from data_gen.config import Run
    from data_gen.journal import Entry
    from data_gen.sources.base import ImageRef

MOST_BLOCKS = 2000  # more are mostly bookkeeping


@ENGINES.register("ray")
@dataclass(frozen=True, kw_only=True)
class RayEngine(Engine):
    """A Ray cluster; `workers` actors mark images."""

    address: str | None = option(None, help="of a running cluster (auto: the one of this node); none: one of its own")
    gpus_per_worker: float = option(0.0, help="of each marking actor, such as 1 or 0.25")
    annotator_gpus: float = option(0.0, help="of the annotator's actor")
    block_images: int = option(8, help="images handed over, and written to the journal, together")

    def entries(self, run: Run, refs: Sequence[ImageRef]) -> Generator[Entry, None, None]:
        """A Ray Data pipeline of one or two actor stages, read as its blocks finish."""
        if not refs:
            return
        with self._cluster() as data:
            rows = [{"ref": pickle.dumps(ref)} for ref in refs]
            blocks = min(-(-len(rows) // self.block_images), MOST_BLOCKS)
            place = {"run": run, "folder": Path.cwd()}
            pipeline = data.from_items(rows, override_num_blocks=blocks).map_batches(
                MarkingActor,
                fn_constructor_kwargs=place,
                batch_size=self.block_images,
                compute=data.ActorPoolStrategy(size=run.config.workers),
                num_cpus=1,
                num_gpus=self.gpus_per_worker,
            )
            if run.annotator.is_shared:
                calls = max(2, 2 * run.annotator.requests_in_flight // self.block_images)
                pipeline = pipeline.map_batches(
                    AnnotatingActor,
                    fn_constructor_kwargs=place,
                    batch_size=self.block_images,
                    compute=data.ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=calls),
                    num_cpus=0,
                    num_gpus=self.annotator_gpus,
                )
            # Nothing is prefetched: a thread that does so outlives the loop, and Ray ends a process in which one does.
            for block in pipeline.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
                for made in map(pickle.loads, block["made"]):
                    if isinstance(made, Exception):
                        raise made
                    yield made

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Ray Data on the cluster; one that was started for this run ends with it."""
        try:
            import ray
            import ray.data
        except ImportError:
            raise ImportError("engine=ray needs Ray: pip install 'llava_som[gen]'.") from None
        started = not ray.is_initialized()
        if started:
            try:
                with handlers_kept():  # Ray would make SIGTERM a crash
                    ray.init(address=self.address, include_dashboard=False, log_to_driver=False)
            except ConnectionError as error:
                raise OSError(f"address={self.address}: no Ray cluster answers there ({error}).") from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the run has its own
        try:
            yield ray.data
        finally:
            if started:
                ray.shutdown()


class StageActor:
    """A stage in an actor. What stops the run travels in the place of a record: Ray would wrap an exception in text."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.stops_the_run: Exception | None = None
        try:
            enter(folder, run.config.out)
        except OSError as error:
            self.stops_the_run = error

    def batch_of(self, made: Sequence[Entry | Exception]) -> dict[str, Any]:
        """Records, or what stops the run, as a batch with one column."""
        import numpy as np

        rows = [self.stops_the_run] if self.stops_the_run else made
        column = np.empty(len(rows), object)
        column[:] = [pickle.dumps(row) for row in rows]
        return {"made": column}


class MarkingActor(StageActor):
    """The marking stage; with an annotator that is free, annotating too."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of refs to a batch of entries."""
        from data_gen.stages import marking_stage

        made: list[Any] = []
        try:
            if not self.stops_the_run:
                made = marking_stage(self.run)([pickle.loads(ref) for ref in batch["ref"]])
        except (OSError, ImportError, ValueError) as error:
            self.stops_the_run = portable(error)
        return self.batch_of(made)


class AnnotatingActor(StageActor):
    """The annotating stage, asynchronous: its threads keep the annotator's requests under way."""

    def __init__(self, run: Run, folder: Path) -> None:
        from data_gen.stages import Annotate

        super().__init__(run, folder)
        self.annotate = Annotate(run)
        self.threads = ThreadPoolExecutor(run.annotator.requests_in_flight)

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of entries with their samples."""
        loop = asyncio.get_running_loop()
        marked = [pickle.loads(row) for row in batch["made"]]
        made: list[Any] = [row for row in marked if isinstance(row, Exception)]
        parts = batched((row for row in marked if isinstance(row, dict)), self.run.annotator.requests_per_call)
        try:
            for part in await asyncio.gather(
                *(loop.run_in_executor(self.threads, self.annotate, part) for part in parts)
            ):
                made += part
        except (OSError, ImportError, ValueError) as error:
            self.stops_the_run = portable(error)
        return self.batch_of(made)


def enter(folder: Path, out: Path) -> None:
    """Go to the folder the run was started in, from which its paths are meant.

    Raises:
        OSError: this node does not see it, or not the output.
    """
    if folder.is_dir():
        os.chdir(folder)
    if not folder.is_dir() or not out.is_dir():
        raise OSError(
            f"The node {socket.gethostname()} does not see {out.name!r} of {folder}. engine=ray needs the images, the "
            "output and the folder it is started in on a file system that all nodes share."
        )

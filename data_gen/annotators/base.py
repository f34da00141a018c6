"""The contract of an annotator: answers to questions about tagged images, some at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from data_gen.requests import Answer, Rejected, Request


@dataclass(frozen=True, kw_only=True)
class Annotator(ABC):
    """Answers requests. Subclasses add options as fields; those that are frozen dataclasses travel to any process.

    Attributes:
        is_shared: the annotator holds a model or a connection, so a run has one of it beside the processes that mark
            images; otherwise it is free and every process has its own.
        requests_in_flight: how many calls of `answer` may run at once, each in a thread of its own.
        requests_per_call: how many requests one call of `answer` takes (a batch on a GPU).
        transient_fields: options that do not decide what is answered (speed, retries, prices): a run may change them
            and go on.
    """

    is_shared: ClassVar[bool] = False
    transient_fields: ClassVar[frozenset[str]] = frozenset()

    @property
    def requests_in_flight(self) -> int:
        """Calls of `answer` at once."""
        return 1

    @property
    def requests_per_call(self) -> int:
        """Requests a call."""
        return 1

    def __getstate__(self) -> dict[str, Any]:
        """Only options travel to other processes; a connection or a model is made again where it is needed."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> list[Answer | Rejected]:
        """One result for each request, in order; a request that cannot be answered gives a `Rejected`, not an error.

        Raises:
            ValueError, OSError, ImportError: nothing can be answered at all (a wrong key, no such model, no server).
                The run stops, and resumes once it is mended.
        """

    def estimate(self, request: Request) -> dict[str, float]:
        """What answering would take, for `dry_run=true`: {"prompt_tokens", "completion_tokens", "cost"}; no call."""
        return {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for so many tokens."""
        return 0.0

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """The run was stopped: do not wait for better times. Called from another thread than `answer`."""

    def describe(self) -> dict[str, Any]:
        """What the dataset card says about this annotator besides its name; never a secret."""
        return {}

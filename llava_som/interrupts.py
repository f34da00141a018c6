"""Ctrl-C and SIGTERM end a long command in order, and at once when they come a second time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


@contextmanager
def orderly_stop() -> Iterator[None]:
    """In this block either signal is a KeyboardInterrupt whose argument is the exit status to end with (130 or 143).

    What is under way may take a while to end, a request to a server for one. A second signal does not wait for it.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    with handlers_kept():
        _handle(_stop)
        yield


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """The block, which starts processes, runs to its end before a signal acts: a process half started is lost track of.

    Those processes never see Ctrl-C, which a terminal sends to all of them; it is for the one that started them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    with handlers_kept():
        _handle(lambda number, frame: received.append(number))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if received:
        signal.raise_signal(received[0])


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of both signals back when the block ends; outside of the main thread, nothing can be done."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    _handle(_stop_at_once)
    os.write(2, b"\nStopping; a second time stops at once.\n")
    raise KeyboardInterrupt(128 + number)


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    if os.isatty(2):
        os.write(2, SHOW_CURSOR)
    os._exit(128 + number)

"""One run at a time writes a folder. The kernel holds the lock, so a run that is killed leaves the folder free."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold `folder`, made where it is absent, for the block. On a file system without locks nothing is held.

    Raises:
        ValueError: another run, of this node or of one that shares the file system, writes there now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with _locked(path) as file:
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            path.unlink(missing_ok=True)  # still locked: who waits to open it finds another file, or none


def _locked(path: Path) -> IO[bytes]:
    """The lock file, open and locked."""
    while True:
        file = path.open("a+b", buffering=0)
        try:
            _lock(file)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode("utf-8", "replace") or "another process"
            file.close()
            raise ValueError(
                f"{path.parent}: is being written by another run ({holder}). Wait for it, or choose another out=."
            ) from None
        except (ImportError, OSError) as error:
            logger.debug("%s: cannot be locked (%s); two runs at once would not be noticed.", path, error)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # its holder ended between our opening and our locking it, and took the file away


def _lock(file: IO[bytes]) -> None:
    import fcntl  # not on Windows

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

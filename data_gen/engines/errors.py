"""Errors on their way between processes: some classes of exceptions, other people's mostly, do not come through."""

from __future__ import annotations

import pickle


def portable(error: Exception) -> Exception:
    """The error itself where it survives a pickle, otherwise the nearest plain one that says the same.

    An exception whose class wants other arguments than it hands on fails only when the receiver unpickles it, which a
    pool of processes takes for the death of a worker.
    """
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # whatever its methods run into
        pass
    plain = next((kind for kind in (OSError, ImportError, ValueError) if isinstance(error, kind)), RuntimeError)
    return plain(f"{type(error).__name__}: {error}")

import os
import signal
import subprocess
import sys

import pytest

from data_gen import lock
from data_gen.lock import LOCK, sole_writer

HOLD = """
import sys, time
from pathlib import Path
from data_gen.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_done_or_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(ValueError, match=rf"written by another run \(process {holder.pid} on .*choose another out="),
        sole_writer(tmp_path),
    ):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / LOCK).exists()  # nobody was left to take it away, and it locks nothing
    with sole_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_its_holder_took_away_counts_for_nothing(tmp_path, monkeypatch):
    """Between opening the file and locking it, its holder may end: the lock is then on a file without a name."""
    attempts = []

    def slow_lock(file):
        if not attempts:
            (tmp_path / LOCK).unlink()
        attempts.append(file)

    monkeypatch.setattr(lock, "_lock", slow_lock)
    with sole_writer(tmp_path):
        assert len(attempts) == 2 and (tmp_path / LOCK).exists()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def unsupported(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", unsupported)
    with sole_writer(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()

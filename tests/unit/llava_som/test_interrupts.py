import signal
import subprocess
import sys

import pytest

from llava_som.interrupts import interrupts_held_back, orderly_stop

TWICE = """
import signal
from llava_som.interrupts import orderly_stop
with orderly_stop():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGTERM)  # while the first one is still being obeyed
        print("never reached")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_interrupt_with_its_exit_status(number, capfd):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stop, orderly_stop():
        signal.raise_signal(number)
    assert stop.value.args == (128 + number,) and "a second time" in capfd.readouterr().err
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_the_process_at_once():
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "") and "Traceback" not in done.stderr


def test_a_signal_waits_for_the_end_of_a_block_that_starts_processes():
    reached, blocked = [], "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with pytest.raises(KeyboardInterrupt), orderly_stop(), interrupts_held_back():
        signal.raise_signal(signal.SIGTERM)
        reached.append(subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True).stdout)
    assert reached == ["True\n"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])

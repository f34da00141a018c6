"""What a user waits for first: `llava-som --help` and `import llava_som`, beside an empty interpreter."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from measure import interleaved_ms

COMMANDS = {
    "empty_interpreter": ["-c", "pass"],
    "import_llava_som": ["-c", "import llava_som"],
    "help": ["-m", "llava_som.cli", "--help"],
    "help_synth": ["-m", "llava_som.cli", "synth", "--help"],
    "help_train": ["-m", "llava_som.cli", "train", "--help"],
    "help_eval": ["-m", "llava_som.cli", "eval", "--help"],
}


def run(repeats: int = 7) -> dict:
    """Median milliseconds of each command as a whole process."""
    calls = {
        name: partial(subprocess.run, [sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        for name, words in COMMANDS.items()
    }
    return {"repeats": repeats, "target_help_ms": 1000, "ms": interleaved_ms(calls, repeats)}

"""Run the benchmarks: each `bench_<name>.py` beside this file, in a process of its own, all results in one JSON.

python scripts/bench.py                  # all of them
python scripts/bench.py marks startup    # these two
"""

from __future__ import annotations

import argparse
import importlib
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from measure import circumstances, write_results

HERE = Path(__file__).parent
NAMES = sorted(file.stem.removeprefix("bench_") for file in HERE.glob("bench_*.py"))


def run(name: str) -> dict:
    """One benchmark; each module has a `run()` that returns what it measured."""
    return importlib.import_module(f"bench_{name}").run()


def main() -> None:
    """Parse the command line, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "bench_cpu.json", help="default: %(default)s")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.names or NAMES:
        print(f"== {name}", flush=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh_process:
            results[name] = {**circumstances(), **fresh_process.submit(run, name).result()}
        print(json.dumps({k: v for k, v in results[name].items() if k not in circumstances()}, indent=1), flush=True)
    write_results(results, arguments.out)


if __name__ == "__main__":
    main()

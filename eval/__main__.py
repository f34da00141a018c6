"""`python -m eval`: options in; scores on the screen and a folder with report.json, .md, .html, samples.jsonl out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from eval.config import EvalConfig
from llava_som.config_file import describe_options, parse_options, read_options

USAGE = "python -m eval tasks=NAMES model=PATH [key=value ...] [FILE.yaml ...]"
EXAMPLES = (
    "python -m eval tasks=pope,mme model=checkpoints/llava_som batch_size=16",
    "python -m eval tasks=som_listing model=PATH data=DIR/eval.jsonl out=eval_out/listing",
    "python -m eval tasks=som_listing_tagged model=AFTER data=DIR/eval.jsonl baseline=eval_out/before",
    "python -m eval tasks=docdownstream model=PATH data=DocDownstream-1.0 batch_size=8",
    "python -m eval tasks=mmbench_en_dev model=PATH limit=50 max_new_tokens=16",
    "python -m eval tasks=pope model=PATH intervention='{type: var, task: hallucination}'",
    "torchrun --nproc_per_node 8 -m eval tasks=mmmu_val model=PATH",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation; returns the exit status (2: a mistake in the options or the data, said on stderr)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or {"-h", "--help"} & set(argv):
        sys.stdout.write(describe_options(EvalConfig, USAGE, EXAMPLES) + "\n")
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("eval").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    try:
        return _evaluate_and_report(parse_options(EvalConfig, read_options(argv)))
    except (ValueError, ImportError) as error:  # ImportError: attention kernels or a task's package, not installed
        sys.stderr.write(f"error: {error}\n")
        return 2


def _evaluate_and_report(config: EvalConfig) -> int:
    from eval.report import markdown, write_report
    from eval.results import Results, paired_differences
    from eval.run import evaluate

    baseline = Results.load(config.baseline) if config.baseline else None
    results = evaluate(config)
    if results is None:  # another rank reports
        return 0
    differences = paired_differences(baseline, results, config.seed) if baseline else []
    page = write_report(results, config.out, differences)
    sys.stdout.write(f"{markdown(results, differences)}\nWritten to {page}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

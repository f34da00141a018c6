"""`python -m data_gen.mix recipe.yaml key=value ...`, also `llava-som mix`: data sets in, one training file out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from data_gen.mix.config import MixConfig, MixFile, read_config
from llava_som.config_file import describe_options, read_options

EXAMPLES = (
    "python -m data_gen.mix files=[som_listing/data.json,som_qa/data.json] out=som.json",
    "python -m data_gen.mix 'files=[{path: mix.json, image_root: images, weight: 0.5}, som/data.json]' out=m.jsonl",
    "python -m data_gen.mix recipe.yaml out=mix.parquet missing=error     # refuses a mix that lacks an image",
)


def report_text(config: MixConfig, summary: Mapping[str, Any]) -> str:
    """What came out, in a few lines."""
    from data_gen.mix.run import missing_lines, plural

    records = plural(summary["records"], "record")
    lines = [f"{records}: {config.out}   (train with image_root={summary['image_root']})"]
    for file in summary["files"]:
        parts = [f"{file['mixed']:,} from {file['path']}: {file['read']:,} read"]
        parts += [f"{file[key]:,} {key.replace('_', '-')}" for key in ("text_only", "missing", "rejected") if file[key]]
        lines.append("  " + ", ".join(parts))
    if any(file["rejected"] for file in summary["files"]):
        lines.append(f"  rejected, each with its reason: {config.beside('rejects.jsonl')}")
    if summary["renamed_ids"]:
        lines.append(f"  {plural(summary['renamed_ids'], 'id')} occurred before, numbered now: <id>#2 ...")
    if stored := sum(file["inside_parquet"] for file in summary["files"]):
        lines.append(
            f"  {plural(stored, 'record')} read with images inside parquet, named <file>.parquet#<row>, which only our "
            "training reads; for other programs mix the data.json beside parquet/"
        )
    return "\n".join(lines + missing_lines(config, summary["files"]))


def help_text() -> str:
    """Usage, options and examples."""
    usage = "python -m data_gen.mix [recipe.yaml] files=[...] out=FILE [key=value ...]"
    of_mix, examples = describe_options(MixConfig, usage, EXAMPLES).split("\n\nexamples:")
    of_file = describe_options(MixFile, "", ()).split("\n\n")[1].split("\n", 1)[1]
    return f"{of_mix}\n\nkeys of each of the files:\n{of_file}\n\nexamples:{examples}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 no record came out, 2 wrong options or files, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        sys.stdout.write(help_text() + "\n")
        return 0
    from data_gen.mix.run import mix

    try:
        config = read_config(read_options(words))
        summary = mix(config, show_progress=True)
    except (ValueError, ImportError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; nothing was written.\n")
        return 130
    sys.stdout.write(report_text(config, summary) + "\n")
    return 0 if summary["records"] else 1

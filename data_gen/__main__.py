"""`python -m data_gen recipe.yaml key=value ...`, also behind `llava-som synth`: options in, a training set out."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from data_gen.config import PLUG_INS, DataGenConfig
from data_gen.journal import JOURNAL
from llava_som.config_file import describe_options, read_options
from llava_som.interrupts import orderly_stop
from llava_som.marks.presets import PRESETS, Preset
from llava_som.registry import Registry

EXAMPLES = (
    "python -m data_gen source=coco images=val2017 annotations=instances_val2017.json out=som_val limit=100",
    "python -m data_gen source=coco images=val2017 annotations=panoptic_val2017.json out=som_qa recipe=[listing,qa]",
    "python -m data_gen scripts/recipes/data/scenes.yaml count=2000 untagged=true out=scenes",
    "python -m data_gen source=boxes images=screens annotations=elements preset=ui recipe=refer out=som_ui",
    "python -m data_gen source=pdf images=papers recipe=document formats=docowl out=pages",
    "python -m data_gen source=sam images=photos annotator=openai_compatible model=gpt-4o out=som_sam dry_run=true",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 no record came out, 2 wrong options or a machine that cannot, 130 stopped by Ctrl-C,
        143 by SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        sys.stdout.write(help_text() + "\n")
        return 0
    log_above_progress()
    options: dict[str, Any] = {}
    try:
        with orderly_stop():
            from data_gen.pipeline import generate  # the imaging libraries are not needed for --help

            options = read_options(words)
            summary = generate(options, show_progress=True)
    except (ValueError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:  # a full disk, a folder that may not be written, a checkpoint that is not there
        kept = "What is finished is kept; once this is mended the same command goes on.\n"
        sys.stderr.write(f"error: {error}\n{kept if has_finished(options) else ''}")
        return 2
    except KeyboardInterrupt as stop:
        kept = " What is finished is kept; the same command goes on from here."
        sys.stderr.write(f"Stopped.{kept if has_finished(options) else ''}\n")
        return (*stop.args, 130)[0]
    if "sampled" in summary:
        sys.stdout.write(estimate_report(summary) + "\n")
        return 0
    sys.stdout.write(report(summary, str(options["out"])) + "\n")
    return 0 if summary["records"] else 1


def has_finished(options: Mapping[str, Any]) -> bool:
    """Whether the run that was broken off left something in its folder."""
    return not options.get("dry_run") and os.path.exists(os.path.join(str(options.get("out")), JOURNAL))


class ToStderr(logging.Handler):
    """Writes to what sys.stderr is at the time: a progress bar puts itself there, and lines then go above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(self.format(record) + "\n")


def log_above_progress() -> None:
    """Show what this project says about a run, and of other packages (a line a request, some of them) only warnings."""
    logging.basicConfig(format="%(message)s", handlers=[ToStderr()])
    for package in ("data_gen", "llava_som"):
        logging.getLogger(package).setLevel(logging.INFO)


def help_text() -> str:
    """Usage, the options of the run, then those of presets and of every plug-in, and examples."""
    usage = "python -m data_gen [recipe.yaml] source=NAME out=FOLDER [key=value ...]"
    run_options, examples = describe_options(DataGenConfig, usage, EXAMPLES).split("\n\nexamples:")
    kinds = map(describe_plug_ins, PLUG_INS.values())
    return "\n\n".join([run_options, describe_marks(), *kinds, f"examples:{examples}"])


def describe_marks() -> str:
    """Every field of a preset: what the docstring of `Preset` says about it, and its values."""
    entries = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", Preset.__doc__ or "", re.MULTILINE)
    meanings = {name: " ".join(text.split()).replace("None", "null") for name, text in entries}
    lines = ["fields of a preset (marks.FIELD=value changes one of the chosen preset):"]
    for field in dataclasses.fields(Preset):
        if field.name != "name":
            lines.append(f"  marks.{field.name}  {meanings[field.name]} ({in_presets(field.name)})")
    return "\n".join(lines)


def in_presets(field: str) -> str:
    """The value of a field in each preset, as one writes it; once where all have the same."""
    values = {name: json.dumps(getattr(preset, field)) for name, preset in PRESETS.items()}
    distinct = {*values.values()}
    return ", ".join(distinct if len(distinct) == 1 else (f"{name} {value}" for name, value in values.items()))


def describe_plug_ins(registry: Registry) -> str:
    """Every plug-in of a registry: its name, the first line of its docstring, and its options."""
    lines = [f"{registry.kind}s:"]
    for name in registry.names():
        plug_in = registry.get(name)
        lines.append(f"  {registry.kind}={name}: {(plug_in.__doc__ or '').splitlines()[0]}")
        for field in dataclasses.fields(plug_in):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            stated = "required" if default is dataclasses.MISSING else f"default {default!r}"
            lines.append(f"      {field.name}  {field.metadata['help']} ({stated})")
    return "\n".join(lines)


def report(summary: dict, out: str) -> str:
    """What came out, in a few lines."""
    made = f"{summary['marks']} marks from {summary['images']} images" if "marks" in summary else pages_made(summary)
    lines = [f"{summary['records']} records with {made}: {out}/data.json"]
    lines += [f"  rejected, {reason}: {number}" for reason, number in summary["rejected_by_reason"].items()]
    if summary["rejected"]:
        lines.append(f"  each with its reason in {out}/rejects.jsonl; once that is mended, the same command goes on")
    if summary["usage"]["prompt_tokens"]:
        lines.append(f"  its answers took {tokens_and_cost(summary['usage'])}, those kept from before included")
    return "\n".join([*lines, f"Look at it: llava-som show {out}   (or open {out}/index.html)"])


def pages_made(summary: Mapping[str, Any]) -> str:
    """What the records of a run over pages are about."""
    return f"{summary['words']:,} words on {summary['images']} pages"


def estimate_report(summary: dict) -> str:
    """What a dry run foresees, in a few lines."""
    if "requests" not in summary:
        return (
            f"{summary['images']:,} pages, about {summary['records']:,} records, about {summary['seconds']:,.0f} s in "
            f"one process.\nEstimated from {summary['sampled']} pages ({summary['unusable']} of them unusable). "
            "Nobody is asked, and nothing was written."
        )
    return (
        f"{summary['images']:,} images, {summary['requests']:,} requests: about {tokens_and_cost(summary)}.\n"
        f"Estimated from {summary['sampled']} images ({summary['unusable']} of them unusable); what an annotator has "
        "answered before is free, and repair requests come on top. Nothing was written."
    )


def tokens_and_cost(usage: Mapping[str, Any]) -> str:
    """What was or would be used, in words."""
    tokens = f"{usage['prompt_tokens']:,} prompt and {usage['completion_tokens']:,} answer tokens"
    return f"{tokens}, {usage['cost']:,.2f} USD"


if __name__ == "__main__":
    sys.exit(main())

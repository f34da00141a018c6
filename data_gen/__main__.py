"""`python -m data_gen recipe.yaml key=value ...`, also behind `llava-som synth`: options in, a training set out."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Sequence

from data_gen.annotators import ANNOTATORS
from data_gen.config import DataGenConfig
from data_gen.recipes import RECIPES
from data_gen.sources import SOURCES
from llava_som.config_file import describe_options, read_options
from llava_som.registry import Registry

EXAMPLES = (
    "python -m data_gen source=coco images=val2017 annotations=instances_val2017.json out=som_val limit=100",
    "python -m data_gen source=coco images=val2017 annotations=panoptic_val2017.json out=som_panoptic workers=8",
    "python -m data_gen scripts/recipes/data/scenes.yaml count=2000 untagged=true out=scenes",
    "python -m data_gen source=boxes images=photos annotations=boxes.json out=som_boxes marks.font_px=32",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 no record came out, 2 wrong options or a machine that cannot, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        sys.stdout.write(help_text() + "\n")
        return 0
    from data_gen.pipeline import generate  # the imaging libraries are not needed for --help

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        summary = generate(options := read_options(words), show_progress=True)
    except (ValueError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:  # a full disk, a folder that may not be written, a checkpoint that is not there
        sys.stderr.write(f"error: {error}\nWhat is finished is kept; once this is mended the same command goes on.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. What is finished is kept; the same command goes on from here.\n")
        return 130
    sys.stdout.write(report(summary, str(options["out"])) + "\n")
    return 0 if summary["records"] else 1


def help_text() -> str:
    """Usage, the options of the run, then every plug-in with its own options, and examples."""
    usage = "python -m data_gen [recipe.yaml] source=NAME out=FOLDER [key=value ...]"
    run_options, examples = describe_options(DataGenConfig, usage, EXAMPLES).split("\n\nexamples:")
    kinds = (describe_plug_ins(registry) for registry in (SOURCES, RECIPES, ANNOTATORS))
    return "\n\n".join([run_options, *kinds, f"examples:{examples}"])


def describe_plug_ins(registry: Registry) -> str:
    """Every plug-in of a registry: its name, the first line of its docstring, and its options."""
    lines = [f"{registry.kind}s:"]
    for name in registry.names():
        plug_in = registry.get(name)
        lines.append(f"  {registry.kind}={name}: {(plug_in.__doc__ or '').splitlines()[0]}")
        for field in dataclasses.fields(plug_in):
            stated = "required" if field.default is dataclasses.MISSING else f"default {field.default!r}"
            lines.append(f"      {field.name}  {field.metadata['help']} ({stated})")
    return "\n".join(lines)


def report(summary: dict, out: str) -> str:
    """What came out, in a few lines."""
    lines = [
        f"{summary['records']} records with {summary['marks']} marks from {summary['images']} images: {out}/data.json"
    ]
    lines += [f"  set aside, {reason}: {number}" for reason, number in summary["quarantined_by_reason"].items()]
    if summary["quarantined"]:
        lines.append(f"  each with its reason in {out}/quarantine.jsonl")
    return "\n".join([*lines, f"Look at some of them: {out}/index.html"])


if __name__ == "__main__":
    sys.exit(main())

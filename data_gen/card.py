"""The dataset card: README.md with the front matter that dataset hubs read, every number from the run itself.

What is needed to judge, load and repeat the data is here: sources, recipes, annotator, preset, seed, licences, counts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

import llava_som

if TYPE_CHECKING:
    from data_gen.config import Run
    from data_gen.writers.base import Writer

NOT_STATED = "not stated"
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_SECRET = re.compile(r"(api_?key|secret|password|credential|authorization|(^|_)token)$", re.IGNORECASE)
_TWINS = (
    "Every conversation is there a second time, with `:untagged` at the end of its id, on the image without marks. "
    "Such a twin speaks of marks that its image does not show: the untagged arm of a comparison, from the same text."
)
_LOADING = """\
import json{datasets}

samples = json.load(open("{out}/data.json"))  # LLaVA's format; image paths start from {out}/
"""


def dataset_card(run: Run, summary: Mapping[str, Any], writers: Sequence[Writer]) -> str:
    """The text of README.md.

    Args:
        run: what was asked for.
        summary: what came of it, see `data_gen.statistics`.
        writers: the further formats that were written.
    """
    name, config = run.config.out.resolve().name, run.config
    identity = shareable(run.identity())
    told = shareable(run.annotator.describe())
    made_by = {"about the annotator": told} if told else {}
    recipes = [recipe["name"] for recipe in identity["recipe"]]
    sections = [
        "---\n" + as_yaml(front_matter(name, config.license, summary["records"], writers)) + "---",
        f"# {name}",
        f"Images with numbered marks on their regions (Set-of-Mark) and {conversations(summary['records'])} about the "
        f"marks, made by llava_som {llava_som.__version__}. Regions: `{identity['source']['name']}`; asked: "
        f"{', '.join(f'`{recipe}`' for recipe in recipes)}; answered by: `{identity['annotator']['name']}`.",
        *([_TWINS] if run.config.twins else []),
        "## Licences\n\n" + table({"data set": config.license, "images": config.image_license}),
        "## Numbers\n\n" + table(numbers(summary)),
        *([counted("Commonest names", summary["vocabulary"]["top"])] if summary["vocabulary"]["top"] else []),
        *([counted("Rejected, by reason", summary["rejected_by_reason"])] if summary["rejected"] else []),
        "## Files\n\n" + table(files(writers, run.config.untagged or run.config.twins)),
        "## Loading\n\n```python\n" + loading(name, writers) + "```",
        "## How it was made\n\n```yaml\n" + as_yaml(identity | made_by) + "```",
        "## Making it again\n\nSave this as `recipe.yaml` beside the files that it names and run "
        "`python -m data_gen recipe.yaml out=FOLDER`.\n\n"
        "```yaml\n" + as_yaml(options(run, identity)) + "```",
    ]
    return "\n\n".join(sections) + "\n"


def front_matter(name: str, license_text: str, records: int, writers: Sequence[Writer]) -> dict[str, Any]:
    """The YAML head of the card; a licence that is no identifier of the hub's kind is `other` with its text."""
    if license_text == NOT_STATED:
        licence = {"license": "unknown"}
    elif re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license_text):
        licence = {"license": license_text}
    else:
        licence = {"license": "other", "license_name": license_text}
    paths = [f"{writer.folder}/{writer.pattern}" for writer in writers] or ["data.json"]
    names = ["default", *(writer.folder for writer in writers[1:])]
    return {
        "pretty_name": name,
        **licence,
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "tags": ["set-of-mark", "visual-grounding", "llava", "llava_som"],
        "size_categories": [next((size for limit, size in _SIZES.items() if records < limit), "n>10M")],
        "configs": [
            {"config_name": config, "data_files": [{"split": "train", "path": path}]}
            for config, path in zip(names, paths, strict=True)
        ],
    }


def conversations(count: int) -> str:
    """How many there are, in words: "1 conversation", "1,200 conversations"."""
    return f"{count:,} conversation{'s' * (count != 1)}"


def numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The counts that a reader asks for first."""
    return {
        "images tried": summary["images"],
        "conversations": summary["records"],
        **({"of them untagged twins": twins} if (twins := summary["untagged_twins"]) else {}),
        **{f"conversations of `{recipe}`": count for recipe, count in summary["records_by_recipe"].items()},
        "marks": summary["marks"],
        "marks an image": spread(summary["marks_per_image"]),
        "items a listing": spread(summary["items_per_listing"]),
        "words an item": spread(summary["words_per_item"]),
        "distinct names": summary["vocabulary"]["size"],
        "regions without a mark": summary["regions_without_mark"],
        "rejected": summary["rejected"],
        "tokens asked / answered": f"{summary['usage']['prompt_tokens']:,} / {summary['usage']['completion_tokens']:,}",
    }


def spread(distribution: Mapping[str, Any]) -> str:
    """A distribution as "2 to 9, mean 4.5"."""
    return "{min} to {max}, mean {mean}".format_map(distribution) if distribution else "none"


def files(writers: Sequence[Writer], has_clean: bool) -> dict[str, str]:
    """The data in the output folder, without the run's journal and the page that shows it."""
    return {
        "`data.json`": "the conversations in LLaVA's format",
        "`images/`": "marked images, each with its sidecar `.marks.json`: number, mask, box and name of every mark",
        **({"`clean/`": "the same images without marks"} if has_clean else {}),
        "`eval.jsonl`": "images with sidecars, for `llava-som eval tasks=som_listing`",
        "`rejects.jsonl`": "what is not in the data, with reasons and answers",
        "`summary.json`": "the numbers above, with histograms",
        **{f"`{writer.folder}/`": (type(writer).__doc__ or "").splitlines()[0] for writer in writers},
    }


def loading(name: str, writers: Sequence[Writer]) -> str:
    """Python that opens the data, from the folder above it."""
    lines = [f"{writer.folder} = {writer.loading.replace('OUT', name)}\n" for writer in writers]
    return _LOADING.format(out=name, datasets=", datasets" if writers else "") + "".join(lines)


def options(run: Run, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as the options that give it, plug-ins by name and their fields beside them; and how many images.

    Plug-ins that share an option share its value. Where theirs differ, nobody gave one and each has its own default.
    """
    plug_ins = [(run.source, identity["source"]), (run.annotator, identity["annotator"])]
    plug_ins += zip(run.recipes.values(), identity["recipe"], strict=True)
    stated: dict[str, list[Any]] = {}
    for plug_in, values in plug_ins:
        for field in dataclasses.fields(plug_in):
            if field.name in values:  # not those that do not decide what is written
                stated.setdefault(field.name, []).append(values[field.name])
    fields = {key: values[0] for key, values in stated.items() if all(value == values[0] for value in values)}
    others = {key: value for key, value in identity.items() if key not in ("source", "recipe", "annotator", "preset")}
    given = {
        "source": identity["source"]["name"],
        "recipe": [recipe["name"] for recipe in identity["recipe"]],
        "annotator": identity["annotator"]["name"],
        "preset": run.config.preset,
        "marks": run.config.marks,
        "count": getattr(run.source, "count", None),  # of a source that draws; a run may go on with more
        "limit": run.config.limit,
        "formats": list(run.config.formats),
        **fields,
        **others,
    }
    return {key: value for key, value in given.items() if value not in (None, {}, [])}


def shareable(value: Any) -> Any:
    """JSON values without what is nobody else's business.

    What a key calls a secret, and a password in an address, is left out; of an absolute path the last name stays, which
    says what was read and not whose machine it was.
    """
    if isinstance(value, Mapping):
        return {key: "(left out)" if _SECRET.search(key) else shareable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(item) for item in value]
    if not isinstance(value, str):
        return value
    return PurePath(value).name or value if PurePath(value).is_absolute() else re.sub(r"://[^/@\s]+@", "://", value)


def counted(title: str, counts: Mapping[str, int]) -> str:
    """A section with a table of the first twenty counts."""
    return f"## {title}\n\n" + table(dict(list(counts.items())[:20]))


def table(rows: Mapping[str, Any]) -> str:
    """A Markdown table of two columns; what would end a cell is escaped."""
    cells = [(key, f"{value:,}" if isinstance(value, int) else str(value)) for key, value in rows.items()]
    lines = [f"| {cell(key)} | {cell(value)} |" for key, value in cells]
    return "\n".join(["| | |", "|---|---|", *lines])


def cell(text: str) -> str:
    """Text that stays in its table cell and is no HTML."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def as_yaml(value: Any) -> str:
    """YAML in the order given, short lists on one line."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)

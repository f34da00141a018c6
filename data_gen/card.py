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
    of_kind = pages_card(identity, summary) if run.is_of_pages else marks_card(run, identity, summary)
    sections = [
        "---\n" + as_yaml(front_matter(name, config.license, summary["records"], writers, of_kind.tags)) + "---",
        f"# {name}",
        *of_kind.opening,
        "## Licences\n\n" + table({"data set": config.license, "images": config.image_license}),
        "## Numbers\n\n" + table(of_kind.numbers),
        *([counted("Commonest names", of_kind.names)] if of_kind.names else []),
        *([counted("Rejected, by reason", summary["rejected_by_reason"])] if summary["rejected"] else []),
        "## Files\n\n" + table(of_kind.files | {f"`{writer.pattern}`": first_line(writer) for writer in writers}),
        "## Loading\n\n```python\n" + loading(name, writers) + "```",
        "## How it was made\n\n```yaml\n" + as_yaml(identity | made_by) + "```",
        "## Making it again\n\nSave this as `recipe.yaml` beside the files that it names and run "
        "`python -m data_gen recipe.yaml out=FOLDER`.\n\n"
        "```yaml\n" + as_yaml(options(run, identity)) + "```",
    ]
    return "\n\n".join(sections) + "\n"


@dataclasses.dataclass(frozen=True)
class OfKind:
    """What a card says of marked images or of pages: opening paragraphs, numbers, files, tags, and commonest names."""

    opening: list[str]
    numbers: dict[str, Any]
    files: dict[str, str]
    tags: list[str]
    names: dict[str, int] = dataclasses.field(default_factory=dict)


def marks_card(run: Run, identity: Mapping[str, Any], summary: Mapping[str, Any]) -> OfKind:
    """Of marked images."""
    first = (
        f"Images with numbered marks on their regions (Set-of-Mark) and {conversations(summary['records'])} about the "
        f"marks, made by llava_som {llava_som.__version__}. Regions: `{identity['source']['name']}`; asked: "
        f"{asked(identity)}; answered by: `{identity['annotator']['name']}`."
    )
    return OfKind(
        opening=[first, *([_TWINS] if run.config.twins else [])],
        numbers=numbers(summary),
        files=files(run.config.untagged or run.config.twins),
        tags=["set-of-mark", "visual-grounding", "llava", "llava_som"],
        names=summary["vocabulary"]["top"],
    )


def pages_card(identity: Mapping[str, Any], summary: Mapping[str, Any]) -> OfKind:
    """Of pages."""
    first = (
        f"Pages and {conversations(summary['records'])} about what is written on them, made by llava_som "
        f"{llava_som.__version__}. Pages: `{identity['source']['name']}`; asked: {asked(identity)}; answered by the "
        "pages themselves. Boxes in the text are whole numbers from 0 to 999: thousandths of a page's width and height."
    )
    return OfKind(
        opening=[first],
        numbers={
            "pages": summary["images"],
            **{f"pages that are a {kind}": count for kind, count in summary["pages_by_kind"].items()},
            "files": summary["files"],
            "conversations": summary["records"],
            **{f"conversations of `{task}`": count for task, count in summary["records_by_task"].items()},
            "words on the pages": summary["words"],
            "words a page": spread(summary["words_per_page"]),
            "words an answer": spread(summary["words_per_answer"]),
            "pages a conversation": spread(summary["images_per_record"]),
            "rejected": summary["rejected"],
        },
        files={
            "`data.json`": "the conversations in LLaVA's format",
            "`images/`": "pages, each with its sidecar `.page.json`: every word with its box, in lines and blocks",
            "`rejects.jsonl`": "what is not in the data, with reasons",
            "`summary.json`": "the numbers above",
        },
        tags=["document-understanding", "ocr", "llava", "llava_som"],
    )


def asked(identity: Mapping[str, Any]) -> str:
    """The recipes by name."""
    return ", ".join(f"`{recipe['name']}`" for recipe in identity["recipe"])


def first_line(plug_in: Any) -> str:
    """What a plug-in says it is."""
    return (type(plug_in).__doc__ or "").splitlines()[0]


def front_matter(
    name: str, license_text: str, records: int, writers: Sequence[Writer], tags: Sequence[str]
) -> dict[str, Any]:
    """The YAML head of the card; a licence that is no identifier of the hub's kind is `other` with its text."""
    if license_text == NOT_STATED:
        licence = {"license": "unknown"}
    elif re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license_text):
        licence = {"license": license_text}
    else:
        licence = {"license": "other", "license_name": license_text}
    paths = [writer.pattern for writer in writers] or ["data.json"]
    names = ["default", *(PurePath(writer.path).stem for writer in writers[1:])]
    return {
        "pretty_name": name,
        **licence,
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "tags": list(tags),
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


def files(has_clean: bool) -> dict[str, str]:
    """The data in the output folder, without the run's journal and the page that shows it."""
    return {
        "`data.json`": "the conversations in LLaVA's format",
        "`images/`": "marked images, each with its sidecar `.marks.json`: number, mask, box and name of every mark",
        **({"`clean/`": "the same images without marks"} if has_clean else {}),
        "`eval.jsonl`": "images with sidecars, for `llava-som eval tasks=som_listing`",
        "`rejects.jsonl`": "what is not in the data, with reasons and answers",
        "`summary.json`": "the numbers above, with histograms",
    }


def loading(name: str, writers: Sequence[Writer]) -> str:
    """Python that opens the data, from the folder above it."""
    lines = [f"{PurePath(writer.path).stem} = {writer.loading.replace('OUT', name)}\n" for writer in writers]
    return _LOADING.format(out=name, datasets=", datasets" if writers else "") + "".join(lines)


def options(run: Run, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as the options that give it, plug-ins by name and their fields beside them; and how many images.

    Plug-ins that share an option share its value. Where theirs differ, nobody gave one and each has its own default.
    """
    plug_ins = [(run.source, identity["source"])]
    plug_ins += [] if run.is_of_pages else [(run.annotator, identity["annotator"])]
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
        **({} if run.is_of_pages else {"annotator": identity["annotator"]["name"], "preset": run.config.preset}),
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

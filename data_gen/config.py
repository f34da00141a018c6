"""The options of `python -m data_gen`, and how one flat set of keys becomes a planned run.

A key belongs to the run, or to the source, recipes or annotator that declare it as a field; those that share a key
(`seed`) share its value. Light on purpose: `--help` imports no framework.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from data_gen.annotators import ANNOTATORS
from data_gen.annotators.base import Annotator
from data_gen.annotators.ground_truth import A_MODEL_CAN, GroundTruthAnnotator
from data_gen.engines import ENGINES
from data_gen.engines.base import Engine
from data_gen.recipes import RECIPES
from data_gen.recipes.base import AnyRecipe, PageRecipe
from data_gen.sources import SOURCES
from data_gen.sources.base import PageSource, Source
from data_gen.writers import WRITERS
from data_gen.writers.base import Writer
from llava_som.config_file import option, parse_options
from llava_som.marks.presets import PRESETS, Preset, get_preset
from llava_som.registry import Registry, closest_match_message

P = TypeVar("P")
PLUG_INS: dict[str, Registry[Any]] = {
    "source": SOURCES,
    "recipe": RECIPES,
    "annotator": ANNOTATORS,
    "engine": ENGINES,
    "formats": WRITERS,
}


@dataclass(frozen=True, kw_only=True)
class DataGenConfig:
    """Options of the run itself; those of its plug-ins are fields of the plug-ins."""

    source: str = option(help="where regions or pages come from; its options are listed below")
    out: Path = option(help="folder to write; a folder of the same run is resumed")
    recipe: tuple[str, ...] = option(("listing",), help="what is asked; several: recipe=[listing,qa,refer]")
    annotator: str = option("ground_truth", help="who answers")
    preset: str = option("clear", help=f"how marks look: {', '.join(sorted(PRESETS))}")
    marks: dict[str, Any] = option(
        factory=dict,
        help="fields of the preset to change: marks.draw=[mark,mask] marks.numbering=shuffled; "
        "preset=NAME chooses a whole one",
    )
    seed: int = option(0, help="the same seed gives the same bytes")
    limit: int | None = option(
        None, help="only the first N images (of source=pdf: windows of pages); raise it later to extend the run"
    )
    engine: str = option("processes", help="what carries the work: one machine's processes, or a Ray cluster")
    workers: int = option(1, help="processes (or Ray actors) that mark images; the output does not depend on it")
    untagged: bool = option(False, help="also write each image without marks, as clean/<id>")
    twins: bool = option(False, help="untagged, and each conversation once more on the image without marks")
    image_format: Literal["auto", "jpg", "png"] = option(
        "auto", help="auto: png for drawn images, jpg (quality 90) for photos"
    )
    near_duplicates: int | None = option(
        None, help="leave out an image whose 64-bit fingerprint differs from an earlier one's in at most N bits"
    )
    formats: tuple[str, ...] = option((), help=f"besides data.json: {', '.join(WRITERS.names())}")
    license: str = option("not stated", help="licence of the data set, for its card")
    image_license: str = option("not stated", help="licence of the images, for the card")
    page: int = option(24, help="how many images index.html shows; `llava-som show` serves all")
    dry_run: bool = option(False, help="estimate requests, tokens and cost from a few images; write nothing")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: at least one process has to do the work.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit}: leave it out for all images, or give at least 1.")
        if self.near_duplicates is not None and not 0 <= self.near_duplicates <= 16:
            raise ValueError(f"near_duplicates={self.near_duplicates}: bits of 64; 0 (the same) to 16 make sense.")
        if not self.recipe or len(set(self.recipe)) < len(self.recipe):
            raise ValueError(f"recipe={list(self.recipe)}: name at least one recipe, and each once.")


@dataclass(frozen=True)
class Run:
    """A checked run: its options and its plug-ins, built."""

    config: DataGenConfig
    source: Source
    recipes: Mapping[str, AnyRecipe]
    annotator: Annotator
    engine: Engine
    preset: Preset
    writers: tuple[Writer, ...]

    @property
    def is_of_pages(self) -> bool:
        """Whether the source gives pages, which are written as they are, and not images to be marked."""
        return isinstance(self.source, PageSource)

    @property
    def suffix(self) -> str:
        """Of the image files that are written."""
        chosen = self.config.image_format
        return self.source.image_suffix if chosen == "auto" else f".{chosen}"

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Where the regions or pages come from, for the sidecars."""
        return described(self.config.source, self.source)

    def identity(self) -> dict[str, Any]:
        """What decides the content of the output, as JSON values; a folder is resumed only by the same identity."""
        asked = [described(name, recipe) | recipe.describe() for name, recipe in self.recipes.items()]
        made = {"source": self.origin, "recipe": asked}
        if self.is_of_pages:
            return made | {key: getattr(self.config, key) for key in IDENTIFYING if key not in OF_MARKS}
        return {
            **made,
            "annotator": described(self.config.annotator, self.annotator),
            "preset": as_json(dataclasses.asdict(self.preset)),
            **{key: getattr(self.config, key) for key in IDENTIFYING},
        }


IDENTIFYING = ("seed", "untagged", "twins", "image_format", "near_duplicates")
OF_MARKS = ("preset", "marks", "annotator", "untagged", "twins", "near_duplicates")
"""Options that a run over pages has no use for: pages are written as they are, and hold the answers themselves."""


def described(name: str, plug_in: Any) -> dict[str, Any]:
    """A plug-in's name and the options that decide what it does, as JSON values.

    With the hash of each file among them, and of the list of files in a folder that is used as a whole.
    """
    fields = {key: value for key, value in dataclasses.asdict(plug_in).items() if key not in plug_in.transient_fields}
    hashes = {key: sha256_of(value) for key, value in fields.items() if isinstance(value, Path) and value.is_file()}
    hashes |= {key: sha256_of_list(fields[key]) for key in getattr(plug_in, "whole_folders", ())}
    return as_json({"name": name, **fields, **({"sha256": hashes} if hashes else {})})


def as_json(value: Any) -> Any:
    """A value as it comes back from JSON: tuples are lists, paths are text."""
    return json.loads(json.dumps(value, default=str))


def sha256_of(file: Path) -> str:
    """Hash of a file's content, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sha256_of_list(folder: Path) -> str:
    """Hash of the names and sizes of the files in a folder and below, in hex."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    listing = [(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def plan_run(options: Mapping[str, Any]) -> Run:
    """Options by key as a checked run.

    Raises:
        ValueError: an unknown key, plug-in, preset or preset field (with the closest match), a missing or
            ill-typed value, or parts that do not work together.
    """
    if "source" not in options:
        raise ValueError(f"The option 'source' is required: source=... ({', '.join(SOURCES.names())}).")
    options = dict(options)
    for key, registry in PLUG_INS.items():
        if key in options and options[key] is None:
            raise ValueError(f"{key}= needs a value: {', '.join(registry.names())}.")
    for key in ("recipe", "formats"):  # one name needs no brackets
        if not isinstance(options.get(key, []), (list, tuple)):
            options[key] = [options[key]]
    recipe_classes = {str(name): RECIPES.get(str(name)) for name in options.get("recipe", ["listing"])}
    writer_classes = [WRITERS.get(str(name)) for name in options.get("formats", [])]
    source_class = SOURCES.get(str(options["source"]))
    annotator_class = ANNOTATORS.get(str(options.get("annotator", "ground_truth")))
    engine_class = ENGINES.get(str(options.get("engine", "processes")))
    plug_ins = (source_class, annotator_class, engine_class, *recipe_classes.values(), *writer_classes)
    refuse_unknown(options, field_names(DataGenConfig).union(*map(field_names, plug_ins)))
    config = build(DataGenConfig, options)
    if "cache" in field_names(annotator_class) and options.get("cache") is None:
        options["cache"] = config.out / "answers"
    run = Run(
        config=config,
        source=build(source_class, options),
        recipes={name: build(recipe_class, options) for name, recipe_class in recipe_classes.items()},
        annotator=build(annotator_class, options),
        engine=build(engine_class, options),
        preset=changed_preset(config.preset, config.marks),
        writers=tuple(build(writer_class, options) for writer_class in writer_classes),
    )
    refuse_pages_with_marks(run, options)
    if not run.is_of_pages:
        refuse_what_cannot_work(run)
    return run


def refuse_pages_with_marks(run: Run, options: Mapping[str, Any]) -> None:
    """A ValueError where a recipe does not go with the source, or an option speaks of marks that pages do not have."""
    source = run.config.source
    fitting = [name for name in RECIPES.names() if issubclass(RECIPES.get(name), PageRecipe) == run.is_of_pages]
    for name, recipe in run.recipes.items():
        if isinstance(recipe, PageRecipe) == run.is_of_pages:
            continue
        able = [other for other in SOURCES.names() if issubclass(SOURCES.get(other), PageSource) != run.is_of_pages]
        given, needed = ("pages", "marked regions") if run.is_of_pages else ("marked regions", "pages")
        raise ValueError(
            f"recipe={name} needs {needed}, and source={source} gives {given}. Use recipe={' or '.join(fitting)}; "
            f"or source={', '.join(able)}."
        )
    for name, writer in zip(run.config.formats, run.writers, strict=True):
        if run.is_of_pages and not writer.takes_pages:
            raise ValueError(
                f"formats=[{name}]: stores a sample as one marked image, and those of source={source} may have several "
                "pages. data.json is always written; formats=[docowl] takes pages too."
            )
    for key in OF_MARKS if run.is_of_pages else ():
        if options.get(key) not in (None, False, {}) and (key != "annotator" or options[key] != "ground_truth"):
            raise ValueError(
                f"{key}={options[key]}: source={source} gives pages, which are written without marks and hold the "
                f"answers themselves. Leave {key}= out."
            )


def refuse_what_cannot_work(run: Run) -> None:
    """A ValueError where the text would speak of what no picture shows, or every image would be rejected."""
    if "mark" not in run.preset.draw:
        drawn = ",".join(run.preset.draw)
        raise ValueError(
            f"marks.draw=[{drawn}]: what is written speaks of tags, and none would be drawn. "
            f"Write marks.draw=[mark,{drawn}]; only `llava-som tag` draws without tags."
        )
    source, annotator = run.config.source, run.config.annotator
    for name, recipe in run.recipes.items():
        if recipe.needs == "traces" and not run.source.has_traces:
            able = ", ".join(other for other in SOURCES.names() if getattr(SOURCES.get(other), "has_traces", False))
            raise ValueError(
                f"recipe={name} tells where marks will go, which source={source} does not know. Use source={able}."
            )
        if recipe.needs == "names" and not run.source.has_names and isinstance(run.annotator, GroundTruthAnnotator):
            able = ", ".join(other for other in SOURCES.names() if getattr(SOURCES.get(other), "has_names", False))
            raise ValueError(
                f"recipe={name} needs names for annotator={annotator}, and source={source} has none: "
                f"{A_MODEL_CAN}; or use source={able}."
            )


def refuse_unknown(options: Iterable[str], known: Iterable[str], kind: str = "option") -> None:
    """A ValueError for a key that nothing chosen declares: what else declares it, or the closest one that is known."""
    known = set(known)
    for key in options:
        if key in known:
            continue
        if owners := owners_of(key):
            raise ValueError(f"Unknown {kind} {key!r} (it belongs to {owners}). Allowed: {', '.join(sorted(known))}.")
        raise ValueError(closest_match_message(kind, key, known))


def owners_of(key: str) -> str:
    """The plug-ins that declare a key, as in "source=boxes, coco or recipe=qa"; "" when none does."""
    owners = {
        kind: [name for name in registry.names() if key in field_names(registry.get(name))]
        for kind, registry in PLUG_INS.items()
    }
    return " or ".join(f"{kind}={', '.join(names)}" for kind, names in owners.items() if names)


def build(plug_in: type[P], options: Mapping[str, Any]) -> P:
    """A plug-in from the options that it declares; the others are not its concern."""
    declared = field_names(plug_in)
    return parse_options(plug_in, {key: value for key, value in options.items() if key in declared})


def field_names(config_class: type) -> set[str]:
    """The keys a plug-in or config declares."""
    return {field.name for field in dataclasses.fields(config_class)}


def changed_preset(name: str, changes: Mapping[str, Any]) -> Preset:
    """A preset with some fields changed; its name then says so, because the sidecar keeps it."""
    preset = get_preset(name)
    if not changes:
        return preset
    from llava_som.marks.tags import font_digest  # brings Pillow, which --help does without

    changed = parse_options(Preset, {**dataclasses.asdict(preset), "name": f"{name} (changed)", **changes})
    font_digest(changed.font)  # a font that is not there stops the run, and not every image
    return changed

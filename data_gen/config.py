"""The options of `python -m data_gen`, and how one flat set of keys becomes a planned run.

A key belongs to the run, or to the source, recipe or annotator that declares it as a field; those that share a key
(`seed`) share its value. Light on purpose: `--help` imports no framework.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from data_gen.annotators import ANNOTATORS
from data_gen.annotators.base import Annotator
from data_gen.recipes import RECIPES
from data_gen.recipes.base import Recipe
from data_gen.sources import SOURCES
from data_gen.sources.base import RegionSource
from llava_som.config_file import option, parse_options
from llava_som.marks.presets import PRESETS, Preset, get_preset
from llava_som.registry import closest_match_message

P = TypeVar("P")


@dataclass(frozen=True, kw_only=True)
class DataGenConfig:
    """Options of the run itself; those of its plug-ins are fields of the plug-ins."""

    source: str = option(help="where regions come from; its options are listed below")
    out: Path = option(help="folder to write; a folder of the same run is resumed")
    recipe: str = option("listing", help="what is asked")
    annotator: str = option("ground_truth", help="who answers")
    preset: str = option("paper", help=f"how marks look: {', '.join(sorted(PRESETS))}")
    marks: dict[str, Any] = option(
        factory=dict, help="fields of the preset to change: marks.short_side=336 marks.font_px=30"
    )
    seed: int = option(0, help="the same seed gives the same bytes")
    limit: int | None = option(None, help="only the first N images; raise it later to extend the run")
    workers: int = option(1, help="processes; the output does not depend on it")
    untagged: bool = option(False, help="also write each image without marks, as clean/<id>")
    image_format: Literal["auto", "jpg", "png"] = option(
        "auto", help="auto: png for drawn images, jpg (quality 90) for photos"
    )
    contact_sheet: int = option(24, help="how many records index.html shows")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: at least one process has to do the work.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit}: leave it out for all images, or give at least 1.")


@dataclass(frozen=True)
class Run:
    """A checked run: its options and its plug-ins, built."""

    config: DataGenConfig
    source: RegionSource
    recipe: Recipe
    annotator: Annotator
    preset: Preset

    def identity(self) -> dict[str, Any]:
        """What decides the content of the output, as JSON values; a folder is resumed only by the same identity."""
        plug_ins = {
            kind: {"name": name, **dataclasses.asdict(plug_in)}
            for kind, name, plug_in in (
                ("source", self.config.source, self.source),
                ("recipe", self.config.recipe, self.recipe),
                ("annotator", self.config.annotator, self.annotator),
            )
        }
        kept = {key: getattr(self.config, key) for key in ("seed", "untagged", "image_format")}
        return json.loads(json.dumps({**plug_ins, "preset": dataclasses.asdict(self.preset), **kept}, default=str))


def plan_run(options: Mapping[str, Any]) -> Run:
    """Options by key as a checked run.

    Raises:
        ValueError: an unknown key, plug-in, preset or preset field (with the closest match), a missing or
            ill-typed value.
    """
    own = field_names(DataGenConfig)
    if "source" not in options:
        raise ValueError(f"The option 'source' is required: source=... ({', '.join(SOURCES.names())}).")
    source_class = SOURCES.get(str(options["source"]))
    recipe_class = RECIPES.get(str(options.get("recipe", "listing")))
    annotator_class = ANNOTATORS.get(str(options.get("annotator", "ground_truth")))
    known = own.union(*map(field_names, (source_class, recipe_class, annotator_class)))
    for key in options:
        if key not in known:
            raise ValueError(closest_match_message("option", key, known))
    config = parse_options(DataGenConfig, {key: value for key, value in options.items() if key in own})
    return Run(
        config=config,
        source=build(source_class, options),
        recipe=build(recipe_class, options),
        annotator=build(annotator_class, options),
        preset=changed_preset(config.preset, config.marks),
    )


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
    return parse_options(Preset, {**dataclasses.asdict(preset), "name": f"{name} (changed)", **changes})

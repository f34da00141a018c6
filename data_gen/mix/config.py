"""The options of `python -m data_gen.mix`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llava_som.config_file import option, parse_options
from llava_som.data.sources import DataFile
from llava_som.registry import closest_match_message

SUFFIXES = (".json", ".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class MixFile:
    """One file of the mix."""

    path: str = option(
        help="a .json, .jsonl or .parquet file, or a folder of .parquet files; images inside parquet stay there, named "
        "<file>.parquet#<row>, which only our training reads: for other programs mix the data.json beside it"
    )
    image_root: str | None = option(None, help="folder that its image paths start from; default: its own folder")
    weight: float = option(1.0, help="1: each record once; 0.5: a seeded half of them; 2.5: all twice and half again")
    limit: int | None = option(None, help="only its first N records")

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1000:
            raise ValueError(f"{self.path}: weight={self.weight}: give more than 0; to leave the file out, remove it.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"{self.path}: limit={self.limit}: leave it out for all records, or give at least 1.")

    @property
    def root(self) -> Path:
        """The folder that its image paths start from, links resolved."""
        return DataFile(self.path, self.image_root).root.resolve()


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Options of a mix."""

    files: tuple[MixFile, ...] = option(help="paths, or {path, image_root, weight, limit} each")
    out: Path = option(help="the file to write: .json, .jsonl or .parquet (images as paths)")
    overwrite: bool = option(False, help="replace out where it exists")
    image_root: Path | None = option(
        None, help="folder that the mix's image paths start from; default: the deepest one that holds all image roots"
    )
    seed: int = option(0, help="of the shuffling and of the parts that fractional weights take")
    shuffle: bool = option(True, help="false: file after file")
    missing: Literal["report", "error", "drop", "keep"] = option(
        "report",
        help="a record whose image is not there. report: left out, counted, and written whole to <out>.missing.jsonl; "
        "error: nothing is written; drop: left out and counted; keep: not even looked for",
    )
    duplicate_ids: Literal["rename", "error"] = option(
        "rename", help="an id that occurs again. rename: becomes <id>#2, <id>#3 ...; error: nothing is written"
    )

    def __post_init__(self) -> None:
        paths = [Path(file.path).resolve() for file in self.files]
        if not paths:
            raise ValueError("files=[]: there is nothing to mix.")
        for file, path in zip(self.files, paths, strict=True):
            if paths.count(path) > 1:
                raise ValueError(f"{file.path}: is listed twice. List it once; weight=2 takes each record twice.")
        if self.out.suffix not in SUFFIXES:
            raise ValueError(f"out={self.out}: {closest_match_message('suffix', self.out.suffix, SUFFIXES)}")
        if self.out.resolve() in paths:
            raise ValueError(f"out={self.out}: is one of the files to read. Choose another name.")

    @property
    def root(self) -> Path:
        """The folder that image paths of the mix start from."""
        if self.image_root is not None:
            return self.image_root.resolve()
        return Path(os.path.commonpath([file.root for file in self.files]))

    def beside(self, kind: str) -> Path:
        """mix.json -> mix.<kind>, in the same folder."""
        return self.out.with_name(f"{self.out.stem}.{kind}")


def read_config(options: Mapping[str, Any]) -> MixConfig:
    """Options by key as a checked config; a file is a path, or a mapping whose keys are checked like all others."""
    options = dict(options)
    if isinstance(options.get("files"), str | dict):  # one file needs no brackets
        options["files"] = [options["files"]]
    if isinstance(options.get("files"), list):
        items = [{"path": item} if isinstance(item, str) else item for item in options["files"]]
        options["files"] = [parse_options(MixFile, item) if isinstance(item, dict) else item for item in items]
    return parse_options(MixConfig, options)

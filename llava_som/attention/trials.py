"""The journal of a calibration: a JSON line for each head and dataset, written as soon as a head has been tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setting:
    """What the rows of one journal have in common.

    Attributes:
        model: what it is called.
        beta: of ACT.
        threshold_mode: "alpha_over_n" or "constant".
        threshold: alpha, or the constant.
        seed: by which examples were drawn.
        examples: their digest.
    """

    model: str
    beta: float
    threshold_mode: str
    threshold: float
    seed: int
    examples: str


@dataclass(frozen=True)
class Trial:
    """One head.

    Attributes:
        layer: its layer.
        head: its number.
        rows: counts by dataset: n, correct, baseline_correct, and examples that were gained and lost.
    """

    layer: int
    head: int
    rows: list[dict[str, Any]]


class Trials:
    """Appends to a file, and reads what an earlier run has appended to it.

    Of a head that a killed run left unfinished, the rows are taken out again.

    Args:
        path: the file.
        setting: of the rows that are added, and of those that are there.
        datasets: rows of a head.

    Raises:
        ValueError: rows of another setting, or a line that is no row.
    """

    def __init__(self, path: Path, setting: Setting, datasets: int) -> None:
        self.path = path
        self.setting = setting
        self.datasets = datasets
        self._trials: dict[tuple[int, int], Trial] = {}
        if path.exists():
            self._read()

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place in self._trials

    def __iter__(self) -> Iterator[Trial]:
        return iter(trial for _, trial in sorted(self._trials.items()))

    def check_baseline(self, baseline: dict[str, tuple[int, int]]) -> None:
        """Compare what rows say of the unedited model with what it does now, (examples, right answers) by dataset.

        Raises:
            ValueError: they differ: other weights, another dtype or another kind of device.
        """
        for trial in self:
            found = {row["dataset"]: (row["n"], row["baseline_correct"]) for row in trial.rows}
            if found != baseline:
                raise ValueError(
                    f"{self.path}: the unedited model had other scores when this file was begun, {found} (examples, "
                    f"right answers) and not {baseline}. Give another folder, or the same weights, dtype and device."
                )

    def add(self, layer: int, head: int, rows: list[dict[str, Any]]) -> None:
        """Write the rows of a head."""
        common = asdict(self.setting)
        model = common.pop("model")
        lines = [json.dumps({"model": model, "layer": layer, "head": head, **common, **row}) for row in rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as journal:
            journal.write("".join(f"{line}\n" for line in lines))
        self._trials[layer, head] = Trial(layer, head, rows)

    def _read(self) -> None:
        lines = self.path.read_bytes().split(b"\n")
        rows = [self._row(number, line) for number, line in enumerate(lines[:-1], start=1)]  # the last is unfinished
        kept = 0
        for (layer, head), group in groupby(rows, key=_head):
            own = list(group)
            if len(own) == self.datasets:
                self._trials[layer, head] = Trial(layer, head, own)
                kept += len(own)
            elif kept + len(own) < len(rows):
                raise ValueError(f"{self.path}: lacks rows of layer {layer}, head {head}. Take the others out as well.")
        whole = b"".join(line + b"\n" for line in lines[:kept])
        if whole != b"\n".join(lines):
            with self.path.open("r+b") as journal:
                journal.truncate(len(whole))

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
            common = {key: row[key] for key in asdict(self.setting)}
            counts = {key: row[key] for key in ("n", "correct", "baseline_correct", "gained", "lost")}
            own = {"layer": row["layer"], "head": row["head"], "dataset": row["dataset"], **counts}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path}:{number}: is no row of a calibration ({error!r}). Give a new folder."
            ) from None
        if differing := [
            f"{key} {common[key]!r} (now {new!r})" for key, new in asdict(self.setting).items() if common[key] != new
        ]:
            raise ValueError(
                f"{self.path}:{number}: is of another setting: {', '.join(differing)}. Give another folder, or the "
                "same setting to go on."
            )
        return own


def _head(row: dict[str, Any]) -> tuple[int, int]:
    return row["layer"], row["head"]

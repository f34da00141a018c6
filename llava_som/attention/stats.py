"""What an intervention did, counted while it runs: proof that it fired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_STEPS = 64  # of decoding, counted together
_LEAST = 1e-6  # a coefficient that differs from 1 by less changes nothing


@dataclass
class Tally:
    """Of one intervention in one layer. Numbers stay on their device until they are read.

    Attributes:
        sums: rows x heads that were looked at, those whose attention was changed, and the mass that moved in them.
        waiting: the same by row and head, not added up yet: a decoding step has better things to do.
        found: tokens of the prompts by group; where heads have groups of their own, over all heads.
    """

    sums: Tensor | None = None
    waiting: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    found: dict[str, Tensor] = field(default_factory=dict)

    def count(self, edits: Tensor, mass: Tensor, factors: Tensor) -> None:
        """Add rows of which groups got `mass` and were multiplied by `factors`, `[..., H, R, G]`."""
        self._add(edits, ((factors - 1).abs() * mass).sum(dim=-1))

    def count_rows(self, edits: Tensor, weights: Tensor, new: Tensor) -> None:
        """Add rows whose weights, `[B, H, R, K]`, became others."""
        self._add(edits, (new - weights).abs().sum(dim=-1))

    def _add(self, edits: Tensor, change: Tensor) -> None:
        self.waiting.append((edits, change))
        if change.shape[-1] > 1 or len(self.waiting) >= _STEPS:
            self._add_up()

    def _add_up(self) -> None:
        if not self.waiting:
            return
        edits = torch.cat([edits.expand_as(change).flatten() for edits, change in self.waiting])
        change = torch.cat([change.flatten() for _, change in self.waiting]) * edits
        self.waiting.clear()
        new = torch.stack([edits.sum(), (change > _LEAST).sum(), change.sum() / 2]).double()
        self.sums = new if self.sums is None else self.sums + new

    def count_found(self, groups: Sequence[str], labels: Tensor, is_token: Tensor) -> None:
        """Add the tokens of a prompt that are in each group but the first; `[B, 1 or H, Q]`, counted by head."""
        real = is_token.to(labels.device).unsqueeze(1)
        for label, name in enumerate(groups[1:], start=1):
            number = ((labels == label) & real).sum()
            self.found[name] = self.found[name] + number if name in self.found else number

    def on_cpu(self) -> Tally:
        """The numbers so far, for another process."""
        self._add_up()
        sums = None if self.sums is None else self.sums.cpu()
        return Tally(sums, found={name: number.cpu() for name, number in self.found.items()})

    def add(self, other: Tally) -> None:
        """Add what another process counted."""
        if other.sums is not None:
            self.sums = other.sums if self.sums is None else self.sums + other.sums
        for name, number in other.found.items():
            self.found[name] = self.found[name] + number if name in self.found else number

    def read(self) -> LayerReport:
        """The numbers."""
        self._add_up()
        looked_at, changed, moved = (0.0, 0.0, 0.0) if self.sums is None else self.sums.tolist()
        return LayerReport(
            int(looked_at), int(changed), moved, {name: int(number) for name, number in self.found.items()}
        )


@dataclass(frozen=True)
class LayerReport:
    """What an intervention did in a layer.

    Attributes:
        looked_at: rows of attention, counted by head.
        changed: those that were changed.
        moved: sum of the attention that moved in them; a row has 1.
        found: tokens by group.
    """

    looked_at: int
    changed: int
    moved: float
    found: Mapping[str, int]

    @property
    def changed_share(self) -> float:
        """Share of rows that were changed."""
        return self.changed / self.looked_at if self.looked_at else 0.0

    @property
    def moved_share(self) -> float:
        """Attention that moved in a changed row, mean."""
        return self.moved / self.changed if self.changed else 0.0


def as_table(reports: Mapping[tuple[str, int], LayerReport]) -> str:
    """Lines of text: a line for each intervention and layer."""
    groups = list(dict.fromkeys(name for report in reports.values() for name in report.found))
    head = ["intervention", "layer", "rows x heads", "changed", "moved in these", *groups]
    body = [
        [
            name,
            str(layer),
            str(report.looked_at),
            f"{report.changed_share:.1%}",
            f"{report.moved_share:.3f}",
            *(str(report.found.get(group, "")) for group in groups),
        ]
        for (name, layer), report in sorted(reports.items())
    ]
    return _aligned([head, *body])


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )

"""Which heads a model needs for some prompts: Ships and Sahara (arXiv 2410.13708).

Each head is ablated in turn while the prompts are read again, and scored by what that does to what comes next: to the
distribution of the next token, or to the space that the prompts' last states span. The paper asks about refusals; the
question is as good for grounding or hallucination. Heads are scored and ranked; no weight is changed or written.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.progress import track

from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.head_ablation import HeadAblation
from llava_som.attention.head_measures import Ending, Prompts, kl_divergence, principal_angles, read_ends
from llava_som.attention.heads import described
from llava_som.config_file import option

Head = tuple[int, int]  # number of the layer, number of the head


@dataclass(frozen=True)
class HeadScores:
    """Heads with their scores.

    Attributes:
        scores: by layer and head, in the order in which heads were tried or, of Sahara, chosen.
        by_prompt: KL by layer, head and prompt; empty where only the prompts together have a score.
        about: the decoder and the options.
    """

    scores: dict[Head, float]
    by_prompt: dict[Head, list[float]]
    about: dict[str, Any]

    def ranked(self) -> list[tuple[Head, float]]:
        """Heads, the most important first; equals in order of layer and head."""
        return sorted(self.scores.items(), key=lambda item: (-item[1], item[0]))

    def table(self, most: int = 20) -> str:
        """The first of the ranking as lines of text."""
        unit = "KL, nats" if self.about["measure"] == "kl" else "angle, degrees"
        lines = [f"rank  layer  head  {unit}"]
        for rank, ((layer, head), score) in enumerate(self.ranked()[:most], start=1):
            lines.append(f"{rank:>4}  {layer:>5}  {head:>4}  {score:.6g}")
        return "\n".join(lines)

    def save(self, file: Path) -> None:
        """Write scores, ranking and options as JSON."""
        ranking = [{"layer": layer, "head": head, "score": score} for (layer, head), score in self.ranked()]
        prompts = [{"layer": layer, "head": head, "kl": kl} for (layer, head), kl in self.by_prompt.items()]
        content = {**self.about, "ranking": ranking, "by_prompt": prompts}
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class HeadAttribution:
    """Options of both. A prompt is read once for each head, without a cache: layers x heads x prompts calls in all."""

    measure: Literal["kl", "angles"] = option(
        "kl",
        help="kl: of the next token with the head from that without it, mean over prompts (Ships of a query); angles: "
        "between what the states of all prompts span with it and without it (Ships of a dataset)",
    )
    rank: int = option(1, help="of angles: how many leading directions of the states are compared")
    among: list[int] | None = option(
        None, help="of kl: ids of the tokens that are compared, such as those of yes and no; by default all"
    )
    mode: Literal["undifferentiated", "scaling"] = option("undifferentiated", help="how a head is ablated")
    epsilon: float = option(1e-4, help="what scaling multiplies a head's output by")
    layers: list[int] | None = option(None, help="numbers of the layers whose heads are tried; by default all")
    heads: list[int] | dict[int, list[int]] | None = option(
        None, help="heads to try, of these layers or by layer; by default all"
    )

    def __post_init__(self) -> None:
        if self.measure not in ("kl", "angles"):
            raise ValueError(f"measure={self.measure!r}: allowed are kl and angles.")
        if self.rank < 1:
            raise ValueError(f"rank={self.rank}: must be at least 1.")
        if self.among is not None and len(set(self.among)) < 2:
            raise ValueError(f"among={self.among}: give at least two different tokens; one alone is always certain.")

    def ships(self, model: Any, prompts: Prompts, *, show_progress: bool = False) -> HeadScores:
        """The score of each head by itself.

        Args:
            model: a causal language model of transformers, with or without a vision encoder, in eval mode.
            prompts: inputs of the model, each a batch; padding needs its attention_mask.
            show_progress: draw a progress bar.

        Returns:
            Scores of all heads that were tried.

        Raises:
            ValueError: no prompts, too few for `rank`, heads that the decoder does not have, or a model that
                interventions do not fit.
        """
        before, tried = self._start(model, prompts)
        scores, by_prompt = {}, {}
        for head in track(tried, "Ablating heads", disable=not show_progress):
            scores[head], kl = self._score(model, prompts, before, [head])
            if kl:
                by_prompt[head] = kl
        return HeadScores(scores, by_prompt, self._about(model, prompts))

    def sahara(self, model: Any, prompts: Prompts, *, most: int = 5, show_progress: bool = False) -> HeadScores:
        """Heads that matter together: each round adds the one that changes most beside those chosen before.

        Args:
            model: as for `ships`.
            prompts: as for `ships`.
            most: heads to choose (S); all where fewer are tried.
            show_progress: draw a progress bar for each round.

        Returns:
            The chosen heads in the order of their choice, each with the score of all up to it.

        Raises:
            ValueError: as `ships`, or `most` below 1.
        """
        if most < 1:
            raise ValueError(f"most={most}: must be at least 1.")
        before, tried = self._start(model, prompts)
        scores: dict[Head, float] = {}
        by_prompt: dict[Head, list[float]] = {}
        for number in range(min(most, len(tried))):
            left = [head for head in tried if head not in scores]
            found = {}
            for head in track(left, f"Round {number + 1} of at most {most}", disable=not show_progress):
                found[head] = self._score(model, prompts, before, [*scores, head])
            best = max(left, key=lambda head: found[head][0])
            scores[best] = found[best][0]
            if found[best][1]:
                by_prompt[best] = found[best][1]
        return HeadScores(scores, by_prompt, self._about(model, prompts) | {"most": most})

    def _start(self, model: Any, prompts: Prompts) -> tuple[Ending, list[Head]]:
        """The model as it is, and the heads to try."""
        if not prompts:
            raise ValueError("There are no prompts: heads are scored by what their absence changes in some.")
        decoder = DecoderLayers.of(model)
        every = self.heads if self.heads is not None else list(range(decoder.heads))
        ablation = HeadAblation(heads=every, layers=self.layers).bound(decoder)
        tried = [
            (layer, head)
            for layer in ablation.layers_of(len(decoder.modules))
            for head in ablation.heads_of(layer, decoder.heads)
        ]
        if not tried:
            raise ValueError(f"heads={self.heads}, layers={self.layers}: there is no head to try.")
        before = read_ends(model, prompts, self.among)
        if self.measure == "angles" and self.rank >= len(before.states):
            raise ValueError(
                f"rank={self.rank} with {len(before.states)} prompts: so many directions span everything, and no angle "
                f"can change. Give more than {self.rank} prompts."
            )
        return before, tried

    def _score(
        self, model: Any, prompts: Prompts, before: Ending, ablated: Sequence[Head]
    ) -> tuple[float, list[float]]:
        """The score without some heads, and that of each prompt where it has one."""
        heads: dict[int, list[int]] = {}
        for layer, head in ablated:
            heads.setdefault(layer, []).append(head)
        ablation = HeadAblation(heads=heads, mode=self.mode, epsilon=self.epsilon)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="HeadAblation changed nothing")  # the score will be 0
            with ablation.on(model):
                after = read_ends(model, prompts, self.among)
        if self.measure == "angles":
            return float(principal_angles(before.states, after.states, self.rank).sum()), []
        kl = kl_divergence(before.log_probs, after.log_probs)
        return float(kl.mean()), kl.tolist()

    def _about(self, model: Any, prompts: Prompts) -> dict[str, Any]:
        return {"decoder": described(DecoderLayers.of(model)), "batches": len(prompts), **asdict(self)}

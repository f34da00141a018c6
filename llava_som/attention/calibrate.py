"""Which heads ACT should edit in a model: each is tried alone on held-out examples, and kept if it raises the score.

Head filtering of ACT (Yu et al., ICML 2024). Every trial is a line of calibration.jsonl as soon as it is done, so a run
that was stopped goes on where it was; heads.json follows from those lines by a rule, and by another rule if need be.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from llava_som.attention.act import ACT
from llava_som.attention.choices import ChoiceExample, ChoiceScorer, digest, draw_examples
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.heads import HeadChoice, described
from llava_som.attention.trials import Setting, Trial, Trials
from llava_som.attention.upper_layers import recorded_input, started_at

ROWS, HEADS = "calibration.jsonl", "heads.json"
_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a head is kept: its gain, the mean over datasets of the change in accuracy, has to be above 0.

    Attributes:
        confidence: so sure that it is, by a paired bootstrap: the gain that this share of resamples exceed is above 0.
            With 0, as published, the gain itself decides.
        datasets: at least so many datasets gain.
    """

    confidence: float = 0.95
    datasets: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.confidence < 1:
            raise ValueError(f"confidence={self.confidence}: must be at least 0 and below 1.")

    def keeps(self, trial: Trial, seed: int) -> bool:
        """Whether a head is kept."""
        improved = sum(row["gained"] > row["lost"] for row in trial.rows)
        if gain(trial) <= 0 or improved < self.datasets:
            return False
        return not self.confidence or bound(trial, self.confidence, seed) > 0


def gain(trial: Trial) -> float:
    """Change in accuracy, mean over datasets."""
    return float(np.mean([(row["gained"] - row["lost"]) / row["n"] for row in trial.rows]))


def bound(trial: Trial, confidence: float, seed: int) -> float:
    """The gain that a share `confidence` of paired bootstrap resamples exceed or reach.

    Examples are resampled within their dataset. Each gained, lost or stayed, so their counts are a multinomial draw.
    """
    rng = np.random.default_rng([seed, trial.layer, trial.head])
    gains = np.zeros(_RESAMPLES)
    for row in trial.rows:
        shares = np.array([row["gained"], row["lost"], row["n"] - row["gained"] - row["lost"]]) / row["n"]
        drawn = rng.multinomial(row["n"], shares, size=_RESAMPLES)
        gains += (drawn[:, 0] - drawn[:, 1]) / row["n"]
    return float(np.quantile(gains, 1 - confidence, method="lower")) / len(trial.rows)


@dataclass(frozen=True)
class Calibration:
    """What came out.

    Attributes:
        chosen: the heads that were kept.
        trials: of all heads.
        baseline: examples and right answers of the unedited model, by dataset.
        file: the heads.json.
    """

    chosen: HeadChoice
    trials: list[Trial]
    baseline: dict[str, tuple[int, int]]
    file: Path

    def summary(self) -> str:
        """Lines of text: the unedited model, and how many heads raise its score."""
        scores = [f"{name}: {correct} of {n} right without an edit" for name, (n, correct) in self.baseline.items()]
        higher = sum(gain(trial) > 0 for trial in self.trials)
        kept = sum(map(len, self.chosen.heads.values()))
        best = sorted(self.trials, key=gain, reverse=True)[:5]
        shown = ", ".join(f"{trial.layer}.{trial.head} {gain(trial):+.3f}" for trial in best)
        return "\n".join(
            [
                *scores,
                f"{len(self.trials)} heads tried, {higher} raise the mean accuracy; best (layer.head): {shown}",
                f"{kept} kept -> {self.file}",
            ]
        )


def calibrate(
    model: Any,
    processor: Any,
    examples: Sequence[ChoiceExample],
    out: Path,
    *,
    act: ACT | None = None,
    name: str | None = None,
    rule: Rule | None = None,
    per_dataset: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    show_progress: bool = False,
) -> Calibration:
    """Try heads one by one and write calibration.jsonl and heads.json.

    Layers below the one that is tried do not run again. Their recorded output, and the inputs of the model, are held in
    main memory; a vision encoder runs in every pass.

    Args:
        model: of transformers, with or without a vision encoder, in eval mode.
        processor: its processor, or the tokenizer of a model of text alone.
        examples: held out from those that the heads will be judged by.
        out: folder; what an earlier call with the same setting has tried there is not tried again.
        act: how heads are edited, and of which layers and heads those are that are tried. Default: all of `ACT()`.
        name: what rows call the model; by default what it was loaded from.
        rule: when a head is kept.
        per_dataset: use so many examples of each dataset, drawn by chance.
        batch_size: examples that are read at once.
        seed: of the draw and of the bootstrap.
        show_progress: a bar on stderr.

    Raises:
        ValueError: rows of another setting in `out`, layers or heads that the model does not have, or what
            `ChoiceScorer` refuses.
    """
    act, rule = act or ACT(), rule or Rule()
    decoder = DecoderLayers.of(model)
    heads = _heads_to_try(act, decoder)
    if per_dataset is not None:
        examples = draw_examples(examples, per_dataset, seed)
    setting = Setting(
        model=name or decoder.model.config.name_or_path,
        beta=act.beta,
        threshold_mode="alpha_over_n" if act.threshold is None else "constant",
        threshold=act.alpha if act.threshold is None else act.threshold,
        seed=seed,
        examples=digest(examples),
    )
    trials = Trials(out / ROWS, setting, len({example.dataset for example in examples}))
    scores = _Scores(model, decoder, ChoiceScorer(model, processor, examples, batch_size))
    datasets = np.array([example.dataset for example in examples])
    baseline = scores.unedited()
    trials.check_baseline(_counts(datasets, baseline))
    missing = {layer: [head for head in heads[layer] if (layer, head) not in trials] for layer in heads}
    with tqdm(
        total=sum(map(len, missing.values())), desc="Calibrating", unit="head", disable=not show_progress
    ) as progress:
        for layer, head, right in scores.edited(act, missing):
            trials.add(layer, head, _rows(datasets, baseline, right))
            progress.update()
    return _chosen(trials, rule, decoder, _counts(datasets, baseline), out / HEADS)


def load_model(
    path: str, device: str = "auto", dtype: str = "auto", attn_implementation: str = "auto"
) -> tuple[Any, Any]:
    """A model and what makes its inputs: of the formats of `load_assistant`, or any decoder of transformers.

    Raises:
        ValueError: what `load_assistant` refuses.
    """
    from llava_som.checkpoints import checkpoint_format
    from llava_som.inference import load_assistant, placed

    try:
        checkpoint_format(PreTrainedConfig.get_config_dict(path)[0])
    except ValueError:  # none of ours
        has_images = type(AutoConfig.from_pretrained(path)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    else:
        assistant = load_assistant(path, device, dtype, attn_implementation)
        return assistant.model, assistant.processor
    device, precision = placed(device, dtype)
    options = {} if attn_implementation == "auto" else {"attn_implementation": attn_implementation}
    kind = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    model: Any = kind.from_pretrained(path, dtype=precision, **options)
    processor: Any = (AutoProcessor if has_images else AutoTokenizer).from_pretrained(path)
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # padding is masked
    return model.to(device).eval(), processor


class _Scores:
    """Right answers of a model, edited and not, bool by example."""

    def __init__(self, model: Any, decoder: DecoderLayers, scorer: ChoiceScorer) -> None:
        self.model = model
        self.layers = decoder.modules
        self.scorer = scorer
        self._outputs: int | None = None
        self._logits: Tensor | None = None

    def unedited(self) -> np.ndarray:
        """Of the model as it is."""

        def look(_layer: Any, _args: Any, output: Any) -> None:
            self._outputs = len(output) if isinstance(output, tuple) else None

        hook = self.layers[0].register_forward_hook(look)
        try:
            self._logits = self.scorer.logits(self.scorer.batches[0])
            return self._right([None] * len(self.scorer.batches), 0)
        finally:
            hook.remove()

    def edited(self, act: ACT, heads: dict[int, list[int]]) -> Iterator[tuple[int, int, np.ndarray]]:
        """Layer, head and answers of each trial."""
        inputs: list[Any] = [None] * len(self.scorer.batches)
        below = 0
        for layer, chosen in heads.items():
            if not chosen:
                continue
            with recorded_input(self.layers[layer]) as recorded:
                self._right(inputs, below)
            inputs, below = list(recorded), layer
            if not self._starts_at(layer, inputs[0]):
                inputs, below = [None] * len(inputs), 0
            for head in chosen:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # a head without sinks changes nothing
                    with replace(act, layers=None, heads={layer: [head]}).on(self.model):
                        right = self._right(inputs, below)
                yield layer, head, right

    def _right(self, inputs: Sequence[Tensor | None], first: int) -> np.ndarray:
        """Which answers are right, in calls that start at a layer where its input is known."""
        right = np.zeros(len(self.scorer.answers), dtype=bool)
        for batch, hidden in zip(self.scorer.batches, inputs, strict=True):
            right[batch.places] = self.scorer.is_right(batch, self._call(batch, hidden, first)).numpy()
        return right

    def _call(self, batch: Any, hidden: Tensor | None, first: int) -> Tensor:
        start = nullcontext() if hidden is None else started_at(self.layers, first, hidden, self._outputs)
        with start:
            return self.scorer.logits(batch)

    def _starts_at(self, layer: int, hidden: Tensor) -> bool:
        """Whether calls that start at a layer give what whole calls do: not where layers share more than a stream."""
        found = self._call(self.scorer.batches[0], hidden, layer)
        assert self._logits is not None
        same = torch.allclose(found.float(), self._logits.float(), rtol=1e-3, atol=1e-3)
        if not same:
            warnings.warn(
                f"Layer {layer} of this decoder needs more than its input from the layers below, so they run again for "
                "each head. Slower, and as right.",
                stacklevel=4,
            )
        return same


def _heads_to_try(act: ACT, decoder: DecoderLayers) -> dict[int, list[int]]:
    """By layer, in order."""
    bound_act = act.bound(decoder)
    layers = bound_act.layers_of(len(decoder.modules))
    if not layers or bound_act.heads in ([], {}):
        raise ValueError(
            f"layers={layers}, heads={bound_act.heads}: nothing to try. By default the first two layers and the last "
            f"are left out; this decoder has {len(decoder.modules)}."
        )
    return {layer: sorted(set(bound_act.heads_of(layer, decoder.heads))) for layer in layers}


def _counts(datasets: np.ndarray, right: np.ndarray) -> dict[str, tuple[int, int]]:
    """Examples and right answers by dataset, in order of names."""
    return {name: (int((datasets == name).sum()), int(right[datasets == name].sum())) for name in sorted(set(datasets))}


def _rows(datasets: np.ndarray, baseline: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Counts of one trial by dataset."""
    rows = []
    for name, (examples, correct) in _counts(datasets, right).items():
        own = datasets == name
        gained, lost = int((right & ~baseline)[own].sum()), int((baseline & ~right)[own].sum())
        counts = {"correct": correct, "baseline_correct": correct - gained + lost, "gained": gained, "lost": lost}
        rows.append({"dataset": str(name), "n": examples, **counts})
    return rows


def _chosen(
    trials: Trials, rule: Rule, decoder: DecoderLayers, baseline: dict[str, tuple[int, int]], file: Path
) -> Calibration:
    """Apply the rule and write the heads.json."""
    setting = trials.setting
    kept = [trial for trial in trials if rule.keeps(trial, setting.seed)]
    by_layer = defaultdict(list)
    for trial in kept:
        by_layer[trial.layer].append(trial.head)
    chosen = HeadChoice(dict(by_layer), described(decoder), f"heads={file}")
    chosen.save(
        file,
        **asdict(setting),
        rule=asdict(rule),
        baseline={name: {"n": n, "correct": correct} for name, (n, correct) in baseline.items()},
        tried={str(layer): number for layer, number in Counter(trial.layer for trial in trials).items()},
        gains={f"{trial.layer}.{trial.head}": round(gain(trial), 6) for trial in kept},
    )
    return Calibration(chosen, list(trials), baseline, file)

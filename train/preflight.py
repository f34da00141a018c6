"""Checks before the first step: what would fail after hours, or train on nothing, is found in a minute on one CPU."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.text import Text

from llava_som.data.dataset import IGNORE_INDEX, ConversationDataset
from llava_som.data.record_images import image_file
from llava_som.data.schema import Sample
from llava_som.data.trained_text import render_trained_text
from llava_som.page_encoder import encode_pages
from llava_som.vision.grid import input_size

if TYPE_CHECKING:
    from llava_som import LlavaSomConfig, LlavaSomForConditionalGeneration
    from llava_som.tiling import TileGrid

_STAT_THREADS, _CHUNK = 32, 512


@dataclass
class PreflightReport:
    """What preflight found. `problems` forbid the run; records that were set aside do not."""

    records: int
    set_aside: int = 0
    trained_share: float = 0.0
    samples: list[Text] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@torch.no_grad()
def features_per_image(model: LlavaSomForConditionalGeneration) -> int:
    """Length of what the vision path really returns for one image; with tiling, for a page of one crop.

    Under ZeRO-3 every rank has to call this, because the weights are gathered for it.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    side, page = input_size(model.config.vision_config), model.config.smallest_page
    tiles = torch.zeros(page.num_tiles, 3, side, side, device=model.device, dtype=model.dtype)
    if not is_deepspeed_zero3_enabled():
        return _num_features(model, tiles, page)
    import deepspeed

    vision_path = (model.vision_tower, model.multi_modal_projector, model.compressor)
    with deepspeed.zero.GatheredParameters([weight for part in vision_path for weight in part.parameters()]):
        return _num_features(model, tiles, page)


def _num_features(model: LlavaSomForConditionalGeneration, tiles: torch.Tensor, page: TileGrid) -> int:
    tokens = encode_pages(model, tiles, [page])
    return len(tokens.features if tokens.keep is None else tokens.keep)  # of the placeholders, pruned or not


def run_preflight(
    dataset: ConversationDataset, config: LlavaSomConfig, image_tokens: int, num_samples: int
) -> PreflightReport:
    """Check every record and its files, then look closely at a few.

    Args:
        dataset: records that break a rule or miss a file are put into its quarantine.
        config: of the model.
        image_tokens: features that the model returns for an image, see `features_per_image`.
        num_samples: so many samples, drawn at random, are encoded, counted and rendered; even steps would meet only
            one kind of record where kinds take turns.
    """
    _check_records(dataset)
    report = PreflightReport(records=len(dataset))
    trained = text_tokens = 0
    chosen = Random(0).sample(range(len(dataset)), min(num_samples, len(dataset)))
    for index in sorted(chosen):
        try:
            inputs = dataset[index]
        except ValueError as error:  # not one usable record
            report.problems.append(str(error))
            break
        problem = _image_token_problem(inputs, config, image_tokens)
        report.problems += [problem] if problem else []
        trained += sum(label != IGNORE_INDEX for label in inputs["labels"])
        text_tokens += sum(token != config.image_token_id for token in inputs["input_ids"])
        tokenizer = dataset.processor.tokenizer
        report.samples.append(
            render_trained_text(inputs["input_ids"], inputs["labels"], tokenizer, config.image_token_id)
        )
    report.trained_share = trained / max(text_tokens, 1)
    report.set_aside = dataset.quarantine.count
    return report


def show_report(report: PreflightReport, console: Console, html: Path) -> None:
    """Print the report, and save the rendered samples as a page."""
    recorder = Console(record=True, file=io.StringIO(), width=110)
    for out in (console, recorder):
        for number, sample in enumerate(report.samples, start=1):
            out.rule(f"sample {number}", align="left")
            out.print(sample)
        out.rule("preflight", align="left")
        out.print(
            f"{report.records} records, {report.set_aside} set aside; {report.trained_share:.1%} of the text tokens of "
            f"{len(report.samples)} samples are trained (green)",
            soft_wrap=True,
        )
        for problem in report.problems:
            out.print(Text(f"problem: {problem}", style="bold red"))
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(recorder.export_html(), encoding="utf-8")


def refuse_if_broken(problems: list[str]) -> None:
    """A ValueError that lists the problems, if there are any."""
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise ValueError(f"Preflight found {len(set(problems))} problem(s); nothing was trained:\n{listed}")


def _check_records(dataset: ConversationDataset) -> None:
    """Schema of every record, existence of every image; stat calls overlap, as network file systems answer slowly."""

    def check(start: int) -> list[tuple[int, str]]:
        indices = range(start, min(start + _CHUNK, len(dataset)))
        return [(index, reason) for index in indices if (reason := _record_problem(dataset, index))]

    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        for problems in pool.map(check, range(0, len(dataset), _CHUNK)):
            for index, reason in problems:
                dataset.set_aside(index, reason)


def _record_problem(dataset: ConversationDataset, index: int) -> str:
    try:
        sample: Sample = dataset.sample(index)
        for image in sample.images:
            file = image_file(image, dataset.file_of(index).root)
            if not file.is_file():
                return f"{file}: no such file. Check the path and the image root."
    except ValueError as error:
        return str(error)
    return ""


def _image_token_problem(inputs: dict[str, Any], config: LlavaSomConfig, image_tokens: int) -> str:
    """What is wrong with the number of a sample's placeholders; nothing, when text and vision path agree."""
    tiles, smallest = inputs["pixel_values"], config.smallest_page
    try:
        pages = [] if tiles is None else config.pages_of(len(tiles), inputs["image_grids"])
    except ValueError as error:
        return f"sample {inputs['sample_id']}: {error}"
    counted = {page: sum(config.token_count.span_lengths(page)) for page in {smallest, *pages}}
    expected = sum(counted[page] for page in pages)
    placeholders = inputs["input_ids"].count(config.image_token_id)
    if placeholders == expected and (not pages or image_tokens == counted[smallest]):
        return ""
    return (
        f"sample {inputs['sample_id']} has {placeholders} image tokens for {len(pages)} image(s), the model's config "
        f"counts {expected}; of the smallest image the model makes {image_tokens} features, its config counts "
        f"{counted[smallest]}. Was this processor made for another model?"
    )

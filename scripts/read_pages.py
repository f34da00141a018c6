"""Where each method loses: tiny models learn to read synthetic pages, with every kind of compression and pruning.

    python scripts/read_pages.py                 # everything, resumable: scripts/results/read_pages.json
    python scripts/read_pages.py --quick         # a few steps of two models, to see that it runs

For each seed one vision encoder learns which glyphs are in a patch and in a tile; frozen, it stands for CLIP. For each
method a projector, compressor and decoder are trained on it; the pruners work on the trained model of `h_reducer 1x4`
and train nothing. Asked is "which two letters are printed behind this label?"; a word is right if both letters are.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import circumstances, write_results
from read_pages_data import COLUMNS, LABELS, LAYOUTS, LETTERS, ROWS, Page, draw_page
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from eval.intervals import bootstrap_interval
from llava_som.assembly import assemble
from llava_som.compressors.base import ProjectedTiles
from llava_som.tiling import TileGrid

HERE = Path(__file__).parent
OUT = HERE / "results" / "read_pages.json"
TOKENS = ["<pad>", "<image>", ";", *LABELS, *LETTERS, "<unk>"]
IDS = {token: number for number, token in enumerate(TOKENS)}
SEEDS = (0, 1, 2)
TILE, PATCHES = 64, 8
VISION = {
    "model_type": "clip_vision_model", "image_size": TILE, "patch_size": 8, "hidden_size": 64, "hidden_act": "gelu",
    "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.07,
}  # fmt: skip
TEXT = {
    "model_type": "llama", "hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.06, "max_position_embeddings": 512,
}  # fmt: skip
BASE = "h_reducer 1x4"
TRAINED: dict[str, dict[str, Any]] = {
    BASE: {"projector": "h_reducer"},
    "doc_compressor": {"projector": "h_reducer", "compressor": {"type": "doc_compressor", "heads": 4}},
    "group_mean": {"projector": "h_reducer", "compressor": "group_mean"},
    "one tile": {"projector": "h_reducer", "tiling": {"grids": "grid_1", "global_tile": False}},
    "pixel_shuffle 2x2": {"projector": "pixel_shuffle"},
    "complete_attention": {"projector": "h_reducer", "compressor": {"type": "complete_attention", "heads": 4}},
    "h_reducer 1x8": {"projector": {"type": "h_reducer", "kernel": "1x8"}},
    "avgpool 2x2": {"projector": "avgpool"},
    "tokenpacker 2x2": {"projector": {"type": "tokenpacker", "heads": 4}},
    "ldpv2 2x2": {"projector": "ldpv2"},
    "resampler 16": {"projector": {"type": "resampler", "num_queries": 16, "heads": 4}},
    "c_abstractor 16": {"projector": {"type": "c_abstractor", "num_queries": 16}},
}
BUDGETS = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured.

    Attributes:
        glyph_steps: of the encoder.
        steps: of each method; the first `easy_steps` see pages with few words only.
        easy_steps: of these.
        pool: pages to train on.
        test_pages: of each layout.
        questions: to each page.
    """

    glyph_steps: int = 80
    steps: int = 1100
    easy_steps: int = 300
    pool: int = 1600
    test_pages: int = 48
    questions: int = 2


QUICK = Plan(glyph_steps=4, steps=6, easy_steps=2, pool=32, test_pages=2, questions=1)
BATCH, WORDS_A_PAGE, GLYPH_RATE, RATE, FEATURE_SCALE = 32, 16, 3e-3, 2e-3, 3.0


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each character."""
    characters = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    characters.decoder = decoders.Fuse()
    special = {"pad_token": "<pad>", "eos_token": ";", "unk_token": "<unk>", "additional_special_tokens": ["<image>"]}
    return PreTrainedTokenizerFast(tokenizer_object=characters, **special)


def build(parts: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """A model with fresh weights, and its image processor."""
    torch.manual_seed(seed)
    template = str(HERE.parent / "llava_som" / "chat_templates" / "vicuna.jinja")
    options = {"tiling": "grid_2x2", **parts, "chat_template": template, "vision_feature_layer": -1}
    model, processor = assemble(VISION, TEXT, tokenizer=tokenizer(), **options)
    model.config.vision_final_norm = True
    processor.image_processor.image_mean, processor.image_processor.image_std = [0.9] * 3, [0.3] * 3
    return model, processor.image_processor


def draw_pages(seed: int, count: int) -> list[Page]:
    """Pages of all layouts in turn."""
    rng = np.random.default_rng(seed)
    return [draw_page(rng, LAYOUTS[number % len(LAYOUTS)]) for number in range(count)]


def learn_glyphs(tower: Any, processor: Any, seed: int, steps: int) -> None:
    """Teach an encoder which glyph is in each patch, and its class token which ones are in the tile."""
    torch.manual_seed(seed)
    of_patch, of_tile = nn.Linear(VISION["hidden_size"], len(TOKENS)), nn.Linear(VISION["hidden_size"], len(TOKENS))
    parameters = [*tower.parameters(), *of_patch.parameters(), *of_tile.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=GLYPH_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    pages = draw_pages(1000 + seed, 16 * steps)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = GLYPH_RATE * min(1, (step + 1) / 20) * (1 - 0.9 * step / steps)
        shown = pages[16 * step : 16 * (step + 1)]
        tiles = processor([page.image for page in shown], return_tensors="pt")["pixel_values"]
        hidden = tower.post_layernorm(tower(tiles).last_hidden_state).unflatten(0, (len(shown), -1))
        glyphs = glyphs_of_patches(shown)
        patch_loss = F.cross_entropy(of_patch(hidden[:, 1:, 1:]).flatten(0, 2), glyphs.flatten())
        present = F.one_hot(glyphs, len(TOKENS)).amax(dim=2).float()
        present = torch.cat([present.amax(dim=1, keepdim=True), present], dim=1)
        tile_loss = F.binary_cross_entropy_with_logits(of_tile(hidden[:, :, 0])[..., 1:], present[..., 1:])
        (patch_loss + tile_loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():  # a fresh decoder learns faster from features larger than its embeddings
        tower.post_layernorm.weight.mul_(FEATURE_SCALE)
        tower.post_layernorm.bias.mul_(FEATURE_SCALE)
    tower.requires_grad_(False)


def glyphs_of_patches(pages: Sequence[Page]) -> Tensor:
    """The token in each patch of each crop, `[pages, 4, 64]`; 0 where there is none."""
    glyphs = torch.zeros(len(pages), ROWS, 4 * COLUMNS, dtype=torch.long)
    for number, page in enumerate(pages):
        for (row, column), (label, letters) in zip(page.places, page.words.items(), strict=True):
            for position, character in enumerate(label + letters):
                glyphs[number, row, 4 * column + position] = IDS[character]
    crops = glyphs.view(-1, 2, PATCHES, 2, PATCHES).permute(0, 1, 3, 2, 4)
    return crops.reshape(len(pages), 4, PATCHES * PATCHES)


def train(model: Any, processor: Any, seed: int, plan: Plan) -> None:
    """Teach projector, compressor and decoder to answer, on features of a frozen encoder that are computed once."""
    pages = draw_pages(2000 + seed, plan.pool)
    easy = [number for number, page in enumerate(pages) if number % len(LAYOUTS) == LAYOUTS.index("sparse")]
    grids, features = encoded(model, processor, pages)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    rng = np.random.default_rng(seed)
    model.train()
    for step in range(plan.steps):
        share = 0.02 + 0.49 * (1 + math.cos(math.pi * step / plan.steps))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * share
        numbers = rng.choice(easy if step < plan.easy_steps else len(pages), min(BATCH, len(easy)), replace=False)
        vision = tokens_of(model, features[numbers], [grids[number] for number in numbers])
        model(**dictation(model, [pages[number] for number in numbers], rng), image_features=vision).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def encoded(model: Any, processor: Any, pages: Sequence[Page]) -> tuple[list[TileGrid], Tensor]:
    """How pages are cut, and the features of their patches, `[pages, tiles, patches, D]`."""
    features, grids, tiling = [], [], model.config.tiles
    for start in range(0, len(pages), 40):
        inputs = processor([page.image for page in pages[start : start + 40]], return_tensors="pt")
        hidden = model.vision_tower(inputs["pixel_values"]).last_hidden_state
        count = len(inputs["image_grids"])
        features.append(model.vision_tower.post_layernorm(hidden)[:, 1:].unflatten(0, (count, -1)))
        grids += [TileGrid(rows, cols, tiling.global_tile) for rows, cols in inputs["image_grids"].tolist()]
    return grids, torch.cat(features)


def tokens_of(model: Any, patches: Tensor, grids: Sequence[TileGrid]) -> Tensor:
    """Image features of pages whose patches are encoded, `[S, D_text]`."""
    count = model.config.token_count
    projected = model.multi_modal_projector(patches.flatten(0, 1), (PATCHES, PATCHES))
    return model.compressor(ProjectedTiles(projected, grids, (count.rows, count.cols)))[0]


def dictation(model: Any, pages: Sequence[Page], rng: np.random.Generator) -> dict[str, Tensor]:
    """For each page its placeholders, then label and letters of some words; the letters are to be learned."""
    image = placeholders(model)
    rows = []
    for page in pages:
        labels = [list(page.words)[number] for number in rng.permutation(len(page.words))[:WORDS_A_PAGE]]
        rows.append([*image, *(IDS[token] for label in labels for token in f"{label}{page.words[label]};")])
    longest = max(map(len, rows))
    ids = torch.tensor([row + [IDS["<pad>"]] * (longest - len(row)) for row in rows])
    is_letter = (ids >= IDS[LETTERS[0]]) & (ids <= IDS[LETTERS[-1]])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~is_letter, -100)}


def placeholders(model: Any) -> list[int]:
    """The image tokens of one page; all pages have the same size."""
    tiling = model.config.tiles
    page = tiling.plan(128, 128, TILE)
    return [IDS["<image>"]] * sum(model.config.token_count.span_lengths(page))


@torch.no_grad()
def read(model: Any, processor: Any, pages: Sequence[Page], questions: int) -> dict[str, Any]:
    """Ask for words of each page through the whole model, a prompt a question, and compare.

    Returns:
        `right`, 0 or 1 for each question, page by page; `tokens`, the mean of image tokens that the decoder is given.
    """
    right, kept = [], []
    image = placeholders(model)
    for start in range(0, len(pages), 32):
        shown = pages[start : start + 32]
        asked = [list(page.words)[:questions] for page in shown]
        tiles = dict(processor([page.image for page in shown for _ in range(questions)], return_tensors="pt"))
        ids = torch.tensor([[*image, IDS[label]] for labels in asked for label in labels])
        prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **tiles}
        kept.append(len(model.encode_prompt(**prompt).image_features) / len(ids))
        answers = model.generate(**prompt, max_new_tokens=2, min_new_tokens=2, do_sample=False)[:, -2:].tolist()
        wanted = [page.words[label] for page, labels in zip(shown, asked, strict=True) for label in labels]
        said = ["".join(TOKENS[token] for token in answer) for answer in answers]
        right += [int(word == answer) for word, answer in zip(wanted, said, strict=True)]
    return {"right": right, "tokens": float(np.mean(kept))}


def trained_model(name: str, seed: int, plan: Plan, folder: Path) -> tuple[Any, Any]:
    """The model of a method, trained now or read from an earlier call."""
    model, processor = build(TRAINED[name], seed)
    file = folder / f"{name.replace(' ', '_')}_{seed}.pt"
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
    else:
        tower = folder / f"encoder_{seed}.pt"
        if tower.exists():
            model.vision_tower.load_state_dict(torch.load(tower, weights_only=True))
            model.vision_tower.requires_grad_(False)
        else:
            tiled = build(TRAINED[BASE], seed)[1]
            learn_glyphs(model.vision_tower, tiled, seed, plan.glyph_steps)
            torch.save(model.vision_tower.state_dict(), tower)
        train(model, processor, seed, plan)
        torch.save(model.state_dict(), file)
    return model.eval(), processor


def measure_method(name: str, seed: int, plan: Plan, folder: Path) -> dict[str, Any]:
    """Train a method and let it read the test pages."""
    torch.set_num_threads(1)
    start = time.process_time()
    model, processor = trained_model(name, seed, plan, folder)
    return {**read(model, processor, _test_pages(plan), plan.questions), "cpu_s": round(time.process_time() - start)}


def measure_pruners(seed: int, plan: Plan, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Let the trained base read with every pruner at every budget."""
    torch.set_num_threads(1)
    model, processor = trained_model(BASE, seed, plan, folder)
    for budget in BUDGETS:
        for name, options in pruners(model, processor, budget, seed).items():
            model.set_pruning({"min_tokens": 1, **options})
            yield f"{name} at {budget:.0%}", read(model, processor, _test_pages(plan), plan.questions)
    for name, options in ADAPTIVE.items():
        model.set_pruning({"min_tokens": 1, **options})
        yield f"{name}, adaptive", read(model, processor, _test_pages(plan), plan.questions)


ADAPTIVE: dict[str, dict[str, Any]] = {
    "blank_patch": {"type": "blank_patch"},
    "prumerge": {"type": "prumerge"},
    "prumerge_plus": {"type": "prumerge_plus"},
}
"""Pruners that find their own budget."""


def pruners(model: Any, processor: Any, budget: float, seed: int) -> dict[str, dict[str, Any]]:
    """Every pruner, told to keep a share of the crops' tokens; the global tile's 16 of 80 are spared.

    HiRED shares its budget out over all tiles. FastV and PyramidDrop see all tokens in the first layers: they get the
    same mean over the decoder's three layers.
    """
    of_all = (16 + 64 * budget) / 80
    return {
        "random": {"type": "random", "keep_ratio": budget, "seed": seed},
        "uniform_stride": {"type": "uniform_stride", "keep_ratio": budget},
        "blank_patch": {"type": "blank_patch", "keep_ratio": budget},
        "token_correlation": calibrated(model, processor, budget, seed),
        "prumerge": {"type": "prumerge", "keep_ratio": budget},
        "visionzip": {"type": "visionzip", "layer": -1, "dominant": 0.75 * budget, "contextual": 0.25 * budget},
        "hired": {"type": "hired", "keep_ratio": of_all, "layer_deep": -1},
        "fastv": {"type": "fastv", "layer": 1, "keep_ratio": (3 * of_all - 1) / 2},
        "pyramiddrop": {
            "type": "pyramiddrop",
            "stage_ends": [1 / 3, 2 / 3],
            "keep_ratio": (math.sqrt(12 * of_all - 3) - 1) / 2,  # 1 + r + r^2 = 3 of_all
        },
    }


def calibrated(model: Any, processor: Any, budget: float, seed: int) -> dict[str, Any]:
    """Token correlation with the similarity threshold at which training pages keep the budget on average."""
    options = {"type": "token_correlation", "min_tokens": 1, "layer_low": 0, "layer_deep": -1, "use_global": False}
    tiles = dict(processor([page.image for page in draw_pages(3000 + seed, 32)], return_tensors="pt"))
    low, high = -1.0, 1.0
    for _ in range(12):
        threshold = (low + high) / 2
        model.set_pruning({**options, "similarity_threshold": threshold})
        kept = sum(map(len, model.get_image_features(**tiles))) / len(tiles["image_grids"])
        low, high = (threshold, high) if (kept - 16) / 64 < budget else (low, threshold)
    return {**options, "similarity_threshold": threshold}


def _test_pages(plan: Plan) -> list[Page]:
    return draw_pages(77, plan.test_pages * len(LAYOUTS))


def summary(rows: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Word accuracy of each method over all seeds, with 95 % bootstrap intervals over pages, and for each layout."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(key.rpartition("|")[0] for key in rows):
        found = [rows[f"{name}|{seed}"] for seed in SEEDS if f"{name}|{seed}" in rows]
        pages = np.mean([np.reshape(row["right"], (-1, plan.questions)).mean(axis=1) for row in found], axis=0)
        low, high = bootstrap_interval(pages.tolist())
        layouts = {
            layout: round(float(pages[number :: len(LAYOUTS)].mean()), 3) for number, layout in enumerate(LAYOUTS)
        }
        seeds = [round(float(np.mean(row["right"])), 3) for row in found]
        accuracy = {"accuracy": round(float(pages.mean()), 3), "low": round(low, 3), "high": round(high, 3)}
        tokens = round(float(np.mean([row["tokens"] for row in found])), 1)
        table[name] = {"tokens": tokens, **accuracy, "seeds": seeds, **layouts}
    return table


def run(plan: Plan, out: Path, folder: Path, methods: Sequence[str], seeds: Sequence[int], jobs: int) -> dict[str, Any]:
    """Measure what is not yet in `out`; every result is written at once."""
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"rows": {}}
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, seed: int, row: dict[str, Any]) -> None:
        results["rows"][f"{name}|{seed}"] = row
        print(f"{name}, seed {seed}: {np.mean(row['right']):.3f} with {row['tokens']:.0f} tokens", flush=True)
        results.update(circumstances() | {"plan": vars(plan), "summary": summary(results["rows"], plan)})
        write_results(results, out)

    missing = [(name, seed) for name in methods for seed in seeds if f"{name}|{seed}" not in results["rows"]]
    unread = [seed for seed in seeds if BASE in methods and f"random at 25%|{seed}" not in results["rows"]]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as processes:

        def measured(pairs: Sequence[tuple[str, int]]) -> dict[Any, tuple[str, int]]:
            return {processes.submit(measure_method, name, seed, plan, folder): (name, seed) for name, seed in pairs}

        first = measured([pair for pair in missing if pair[0] == BASE])  # the pruners wait for its weights
        for future in as_completed(first):
            keep(*first[future], future.result())
        pruned = {processes.submit(_all_pruners, seed, plan, folder): seed for seed in unread}
        others = measured([pair for pair in missing if pair[0] != BASE])
        for future in as_completed([*pruned, *others]):
            rows = future.result() if future in pruned else [(others[future][0], future.result())]
            for name, row in rows:
                keep(name, pruned[future] if future in pruned else others[future][1], row)
    return results


def _all_pruners(seed: int, plan: Plan, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return list(measure_pruners(seed, plan, folder))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "methods", nargs="*", metavar="method", help=f"which to train: {', '.join(TRAINED)} (default: all)"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, a core each; default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--models", type=Path, default=Path("out/read_pages"), help="folder of trained weights")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that everything runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.methods) - set(TRAINED):
        parser.error(f"no method called {', '.join(sorted(unknown))}; there are: {', '.join(TRAINED)}")
    methods = arguments.methods or (list(TRAINED)[:2] if arguments.quick else list(TRAINED))
    plan = QUICK if arguments.quick else Plan()
    run(plan, arguments.out, arguments.models, methods, arguments.seeds, arguments.jobs)


if __name__ == "__main__":
    main()

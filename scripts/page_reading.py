"""Where does each method lose? Tiny models learn to read synthetic pages, with compression and with pruning.

    python scripts/page_reading.py              # everything that is missing in scripts/results/page_reading.json
    python scripts/page_reading.py --quick      # a few steps, to see that it runs

Projector, compressor and decoder are trained for each method and seed, on the frozen encoder of that seed. Pruners work
on the trained base and train nothing. A page is asked: "which letter is printed behind this label?"
Every result is written at once, and the table of docs/page_reading.md in the end; a rerun goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core: before torch is loaded
import torch
from measure import circumstances, write_results
from page_reading_data import LAYOUTS, Page, draw_pages
from page_reading_methods import (
    BASE,
    PRUNERS,
    SHARES,
    TRAINED,
    TRAINED_PRUNED,
    TRAINED_PRUNED_SHARE,
    budgeted,
    decoder_tokens,
)
from page_reading_model import QUICK, TOKENS, Plan, build, learn_glyphs, tiles_of, train
from page_reading_table import write_page

HERE = Path(__file__).parent
TEST_SEED, CALIBRATION_SEED = 77, 3000
Row = dict[str, Any]


def trained(name: str, seed: int, plan: Plan, folder: Path) -> tuple[Any, Any]:
    """The model of a method and its processor; weights of an earlier call are read."""
    parts = TRAINED.get(name, TRAINED[BASE])
    model, processor = build(parts, seed)
    file = folder / f"{name.replace(' ', '_')}_{seed}.pt"
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval(), processor
    model.vision_tower.load_state_dict(torch.load(_encoder_file(folder, seed), weights_only=True))
    if name == TRAINED_PRUNED:
        tiles = _calibration_tiles(processor, seed, plan)
        model.set_pruning(budgeted(PRUNERS["token_correlation"], TRAINED_PRUNED_SHARE, model, tiles))
    train(model, processor, seed, plan)
    model.set_pruning(None)
    _save(model, file)
    return model, processor


def prepare_encoder(seed: int, plan: Plan, folder: Path) -> None:
    """Train the encoder of a seed, unless an earlier call did."""
    file = _encoder_file(folder, seed)
    if not file.exists():
        model, processor = build(TRAINED[BASE], seed)
        learn_glyphs(model.vision_tower, processor, seed, plan.glyph_steps)
        _save(model.vision_tower, file)


def measure(name: str, seed: int, plan: Plan, folder: Path) -> list[Row]:
    """Train a method and let it read the test pages."""
    torch.set_num_threads(1)
    prepare_encoder(seed, plan, folder)
    model, processor = trained(name, seed, plan, folder)
    pruning = None
    if name == TRAINED_PRUNED:
        tiles = _calibration_tiles(processor, seed, plan)
        pruning = budgeted(PRUNERS["token_correlation"], TRAINED_PRUNED_SHARE, model, tiles)
    return [read(name, seed, pruning, model, processor, plan)]


def measure_pruner(name: str, seed: int, plan: Plan, folder: Path) -> list[Row]:
    """Let the trained base read the test pages with a pruner, at every budget."""
    torch.set_num_threads(1)
    model, processor = trained(BASE, seed, plan, folder)
    tiles = _calibration_tiles(processor, seed, plan)
    rows = []
    for share in SHARES:
        pruning = budgeted(PRUNERS[name], share, model, tiles)
        pruning |= {"seed": seed} if name == "random" else {}
        rows.append(read(f"{name} at {share:.0%}", seed, pruning, model, processor, plan))
    return rows


@torch.no_grad()
def read(name: str, seed: int, pruning: dict[str, Any] | None, model: Any, processor: Any, plan: Plan) -> Row:
    """Ask each test page for two letters, through the whole model.

    Returns:
        `tokens`, image tokens that the decoder's layers see of a page, mean over pages and layers; `right`, for each
        layout, how many of the two letters are right, a digit a page.
    """
    model.set_pruning(pruning)
    pages = draw_pages(TEST_SEED, plan.test_pages * len(LAYOUTS))
    given, right = 0, []
    for start in range(0, len(pages), 50):
        shown = pages[start : start + 50]
        counts = [0] * len(shown)
        for place in (0, -1):
            entries = [list(page.entries.items())[place] for page in shown]
            prompt = question(processor, shown, [label for label, _ in entries])
            answers = model.generate(**prompt, max_new_tokens=1, do_sample=False)[:, -1].tolist()
            for number, (answer, (_, letter)) in enumerate(zip(answers, entries, strict=True)):
                counts[number] += TOKENS[answer] == letter
        given += len(model.encode_prompt(**prompt).image_features)
        right += counts
    model.set_pruning(None)
    digits = {layout: "".join(map(str, right[place :: len(LAYOUTS)])) for place, layout in enumerate(LAYOUTS)}
    tokens = round(decoder_tokens(given / len(pages), pruning), 2)
    return {"method": name, "seed": seed, "tokens": tokens, "pruning": pruning, "right": digits}


def question(processor: Any, pages: Sequence[Page], labels: Sequence[str]) -> dict[str, torch.Tensor]:
    """Inputs of a page and a label each."""
    images = [[page.image] for page in pages]
    texts = [f"<image>{label}" for label in labels]
    return dict(processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt"))


def run(plan: Plan, out: Path, folder: Path, names: Sequence[str], seeds: Sequence[int], jobs: int) -> list[Row]:
    """Measure what `out` lacks; every result is written when it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(out.read_text()) if out.exists() else {"plan": vars(plan), "rows": []}
    if results["plan"] != vars(plan):
        raise SystemExit(f"{out} was measured with {results['plan']}, not {vars(plan)}: name another --out.")
    missing = missing_tasks(results["rows"], names, seeds)
    base = [task for task in missing if task[1] == BASE]  # the pruners wait for its weights, all for its encoder
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as processes:
        for tasks in (base, [task for task in missing if task not in base]):
            futures = [processes.submit(task, name, seed, plan, folder) for task, name, seed in tasks]
            for future in as_completed(futures):
                results["rows"] += future.result()
                write_results({**results, **circumstances()}, out)
    return results["rows"]


def missing_tasks(rows: Sequence[Row], names: Sequence[str], seeds: Sequence[int]) -> list[tuple[Any, str, int]]:
    """What is still to be measured: a function, a method or pruner, a seed."""
    found = {(row["method"], row["seed"]) for row in rows}
    tasks = []
    for seed in seeds:
        for name in names:
            is_pruner = name in PRUNERS
            done = [f"{name} at {share:.0%}" for share in SHARES] if is_pruner else [name]
            if not all((row, seed) in found for row in done):
                tasks.append((measure_pruner if is_pruner else measure, name, seed))
    return tasks


def _encoder_file(folder: Path, seed: int) -> Path:
    return folder / f"encoder_{seed}.pt"


def _save(module: torch.nn.Module, file: Path) -> None:
    """Weights, never half of them."""
    part = file.with_suffix(f".{os.getpid()}.part")
    torch.save(module.state_dict(), part)
    part.replace(file)


def _calibration_tiles(processor: Any, seed: int, plan: Plan) -> dict[str, torch.Tensor]:
    return tiles_of(processor, draw_pages(CALIBRATION_SEED + seed, plan.calibration_pages))


def main() -> None:
    """Parse the command line and run."""
    every = [*TRAINED, TRAINED_PRUNED, *PRUNERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to measure (default: all): {'; '.join(every)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, a core each (default %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "page_reading.json", help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "page_reading.md", help="the table's page")
    parser.add_argument("--models", type=Path, default=Path("out/page_reading"), help="weights (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps; name --out, --page and --models for it")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(every):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are: {'; '.join(every)}")
    names = arguments.names or every
    if BASE not in names:
        names = [BASE, *names]  # what the others are compared with
    plan = QUICK if arguments.quick else Plan()
    rows = run(plan, arguments.out, arguments.models, names, arguments.seeds, arguments.jobs)
    write_page(rows, arguments.page)


if __name__ == "__main__":
    main()

"""Pages in tiles: tokens, time to first token, FLOPs and memory of each compressor and pruner, as ratios in one run.

The vision tower has a 23rd of the decoder's weights, as in a 7B model with ViT-L; the decoder has the shape of
SmolLM2-135M and its context of 8,192 tokens. Pages are 1512 x 1512 pixels in 3 x 3 crops and a global tile of 504.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from measure import in_fresh_process, interleaved_ms, peak_memory
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration
from llava_som.compressors.base import ProjectedTiles
from llava_som.compressors.doc_compressor import DocCompressor
from llava_som.image_processing import LlavaSomImageProcessor
from llava_som.page_encoder import encode_pages
from llava_som.projectors.h_reducer import HReducer
from llava_som.pruning import PRUNERS, build_pruner
from llava_som.pruning.attention import captured_attention
from llava_som.pruning.base import TilePruner, TileView, Units
from llava_som.tiling import SINGLE_TILE, TileGrid

IMAGE_TOKEN, TEXT_TOKENS, CONTEXT, SIDE = 1, 64, 8192, 504
VISION = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 3, "num_attention_heads": 6,
          "image_size": SIDE, "patch_size": 14}  # fmt: skip
TEXT = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": CONTEXT}  # fmt: skip
VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "image_size": 448, "patch_size": 14}  # fmt: skip
H_REDUCER: dict[str, Any] = {"projector": {"type": "h_reducer", "eos": True}}
METHODS: dict[str, dict[str, Any]] = {
    "no compression": {"projector": "mlp2x_gelu"},
    "h_reducer": H_REDUCER,
    "pixel_shuffle": {"projector": "pixel_shuffle"},
    "doc_compressor": {**H_REDUCER, "compressor": {"type": "doc_compressor", "eos": True}},
    "group_mean": {**H_REDUCER, "compressor": "group_mean"},
}
HALF: dict[str, dict[str, Any]] = {
    "random": {"keep_ratio": 0.5},
    "uniform_stride": {"keep_ratio": 0.5},
    "blank_patch": {"keep_ratio": 0.5},
    "token_correlation": {"redundant_count": 1e9, "max_keep_ratio": 0.5},
    "prumerge": {"keep_ratio": 0.5},
    "visionzip": {"dominant": 0.42, "contextual": 0.08},
    "hired": {"keep_ratio": 0.5},
    "fastv": {"keep_ratio": 0.5},
    "pyramiddrop": {"keep_ratio": 0.5},
}
"""How each pruner is told to keep half of a tile. PruMerge+ cannot: it keeps a sixth at most, or everything."""


def build(method: dict[str, Any], pruning: dict[str, Any] | None = None) -> Any:
    """A model with fresh weights."""
    torch.manual_seed(0)
    parts = {**method, "pruning": pruning, "tiling": "grid_3x3", "image_token_id": IMAGE_TOKEN}
    config = LlavaSomConfig(vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**TEXT), **parts)
    return LlavaSomForConditionalGeneration(config).eval()


def page_image(seed: int = 0) -> Image.Image:
    """A page of text lines on white paper, the lower half empty."""
    page = Image.new("RGB", (1512, 1512), "white")
    draw = ImageDraw.Draw(page)
    for line in range(24):
        draw.text(
            (60, 40 + 28 * line),
            f"line {line} of page {seed}: " + "the quick brown fox " * 5,
            fill="black",
            font_size=18,
        )
    return page


def prompt(model: Any, pages: int) -> dict[str, Tensor]:
    """A question about so many pages."""
    processor = LlavaSomImageProcessor(SIDE, model.config.tiling)
    inputs = dict(processor([page_image(seed) for seed in range(pages)], return_tensors="pt"))
    image = [IMAGE_TOKEN] * (pages * sum(model.config.token_count.span_lengths(TileGrid(3, 3))))
    ids = torch.tensor([[2, *image, *range(3, 2 + TEXT_TOKENS)]])
    return {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def first_token(model: Any, inputs: dict[str, Tensor]) -> None:
    """What a user waits for before the first word."""
    model.generate(**inputs, max_new_tokens=1, do_sample=False, pad_token_id=0)


def flops(call: Callable[[], object]) -> float:
    """Tera-FLOPs of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return round(counter.get_total_flops() / 1e12, 3)


def measure_one(method: dict[str, Any], pruning: dict[str, Any] | None, pages: int) -> dict[str, Any]:
    """One model on a prompt of so many pages: tokens, seconds, FLOPs, memory above that of the loaded model."""
    torch.set_num_threads(2)
    model = build(method, pruning)
    inputs = prompt(model, pages)
    found: dict[str, Any] = {"image_tokens_per_page": (inputs["input_ids"] == IMAGE_TOKEN).sum().item() // pages}
    if inputs["input_ids"].shape[1] > CONTEXT and pruning is None:
        return {**found, "not_run": f"longer than the decoder's context of {CONTEXT}"}
    with torch.inference_mode(), peak_memory() as peak:
        start = time.perf_counter()
        encoded = model.encode_prompt(**inputs)
        found["vision_s"] = round(time.perf_counter() - start, 2)
        found["kept_tokens_per_page"] = round(len(encoded.image_features) / pages)
        first_token(model, inputs)
        repeats = 2 if pages == 1 else 1
        found["first_token_s"] = round(min(_seconds(lambda: first_token(model, inputs)) for _ in range(repeats)), 2)
    with torch.inference_mode():
        found["tflop"] = flops(lambda: first_token(model, inputs))
    return {**found, "peak_mib": peak()}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_methods() -> dict[str, Any]:
    """Every method on one page, and every pruner on H-Reducer's tokens, half of which it keeps."""
    found = {name: in_fresh_process(measure_one, method, None, 1) for name, method in METHODS.items()}
    for name, options in HALF.items():
        found[f"h_reducer, {name}"] = in_fresh_process(measure_one, H_REDUCER, {"type": name, **options}, 1)
    alone = found["h_reducer"]["first_token_s"]
    for row in found.values():
        if "first_token_s" in row:
            row["h_reducer_over_this"] = round(alone / row["first_token_s"], 2)
    return found


def measure_two_pages() -> dict[str, Any]:
    """The most pages that fit the decoder's context without a compressor."""
    found = {name: in_fresh_process(measure_one, METHODS[name], None, 2) for name in ("h_reducer", "doc_compressor")}
    ratio = found["h_reducer"]["first_token_s"] / found["doc_compressor"]["first_token_s"]
    return {**found, "h_reducer_over_doc_compressor": round(ratio, 2)}


def measure_pages(counts: tuple[int, ...] = (1, 2, 5, 10, 20)) -> dict[str, Any]:
    """DocCompressor from 1 to 20 pages."""
    method = METHODS["doc_compressor"]
    found = {str(count): in_fresh_process(measure_one, method, None, count) for count in counts}
    per_page = {count: row["peak_mib"] / int(count) for count, row in found.items()}
    return {**found, "peak_mib_per_page": {count: round(peak) for count, peak in per_page.items()}}


def measure_compressor(repeats: int) -> dict[str, Any]:
    """What DocCompressor adds to the vision path of a page, and packed pages against one call for each."""
    compressed, plain = build(METHODS["doc_compressor"]), build(H_REDUCER)
    inputs = prompt(plain, 1)
    tiles, page = inputs["pixel_values"], [TileGrid(3, 3)]
    with torch.inference_mode():
        vision = interleaved_ms(
            {
                "h_reducer": lambda: encode_pages(plain, tiles, page),
                "both": lambda: encode_pages(compressed, tiles, page),
            },
            repeats,
        )
        packed = measure_packing(repeats)
    return {"vision_ms": vision, "share_added": round(vision["both"] / vision["h_reducer"] - 1, 3), "packing": packed}


def measure_packing(repeats: int, pages: int = 20) -> dict[str, Any]:
    """Pages of mixed grids in one call, as many as a user brings, against a loop, at several widths."""
    grids = [TileGrid(rows, cols) for rows, cols in ((1, 1), (3, 2), (1, 2), (4, 3), (2, 2))] * (pages // 5)
    ends = torch.tensor([grid.num_tiles for grid in grids]).cumsum(0).tolist()
    found = {}
    for width, side in ((64, 6), (256, 12), (576, 36)):
        torch.manual_seed(0)
        module, grid = DocCompressor(width, heads=8).eval(), (side, max(side // 4, 1))
        tokens = torch.randn(ends[-1], grid[0] * grid[1], width)

        def packed(module: nn.Module = module, tokens: Tensor = tokens, grid: tuple[int, int] = grid) -> None:
            module(ProjectedTiles(tokens, grids, grid))

        def loop(module: nn.Module = module, tokens: Tensor = tokens, grid: tuple[int, int] = grid) -> None:
            for page, start, end in zip(grids, [0, *ends], ends, strict=False):
                module(ProjectedTiles(tokens[start:end], [page], grid))

        times = interleaved_ms({"packed": packed, "loop": loop}, repeats)
        found[f"{width} wide, {grid[0] * grid[1]} tokens a tile"] = {
            "ms": times,
            "loop_over_packed": round(times["loop"] / times["packed"], 2),
        }
    return found


def measure_h_reducer(repeats: int, tiles: int = 10) -> dict[str, Any]:
    """The grouped MLP against the two convolutions it equals, at the published width of 1024.

    PyTorch hands linear layers in float32 to MKL and convolutions to oneDNN, and MKL is the slower one on AMD. So the
    MLP is also computed by oneDNN: the two algorithms by one library.
    """
    torch.manual_seed(0)
    reducer, features = HReducer(1024, 576).eval(), torch.randn(tiles, 36 * 36, 1024)
    first, second = nn.Conv2d(1024, 4096, (1, 4), (1, 4)), nn.Conv2d(1024, 1024, (1, 4), (1, 4))
    first.weight.data.copy_(reducer.expand.weight.view(4096, 4, 1024).transpose(1, 2).unsqueeze(2))
    second.weight.data.copy_(reducer.reduce.weight.view(1024, 4, 1024).transpose(1, 2).unsqueeze(2))
    first.bias, second.bias = reducer.expand.bias, reducer.reduce.bias

    def convolutions() -> Tensor:
        hidden = nn.functional.gelu(first(features.transpose(1, 2).unflatten(2, (36, 36))))
        hidden = hidden.unflatten(1, (4, 1024)).permute(0, 2, 3, 4, 1).flatten(3)
        return reducer.project(second(hidden).flatten(2).transpose(1, 2))

    def linear(layer: nn.Linear, hidden: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(hidden, layer.weight, layer.bias, "none", [], "")

    def grouped_by_onednn() -> Tensor:
        hidden = reducer.act(linear(reducer.expand, reducer.windows_of(features, (36, 36)).flatten(2)))
        return linear(reducer.project, linear(reducer.reduce, hidden))

    calls = {"grouped": lambda: reducer(features, (36, 36)), "convolutions": convolutions}
    with torch.inference_mode():
        difference = (convolutions() - reducer(features, (36, 36))).abs().max().item()
        times = interleaved_ms({**calls, "grouped, oneDNN": grouped_by_onednn}, repeats)
    return {
        "ms": times,
        "convolutions_over_grouped": round(times["convolutions"] / times["grouped"], 2),
        "convolutions_over_grouped_by_onednn": round(times["convolutions"] / times["grouped, oneDNN"], 2),
        "largest_difference": difference,
    }


def measure_pruner_cost(repeats: int) -> dict[str, Any]:
    """What each pruner itself costs beside a ViT-L tower on one tile of 448."""
    torch.manual_seed(0)
    tower, tile = CLIPVisionModel(CLIPVisionConfig(**VIT_L)).eval(), torch.randn(1, 3, 448, 448)
    patches = 32 * 32
    found = {}
    with torch.inference_mode():
        encode_s = min(_seconds(lambda: tower(tile)) for _ in range(repeats))
        for name in PRUNERS.names():
            pruner: Any = build_pruner({"type": name})
            if not isinstance(pruner, TilePruner):
                continue
            with captured_attention(tower, pruner.layers(), 1) as attention:
                features = tower(tile).last_hidden_state[:, 1:]
            units = Units(patches, torch.arange(patches))
            view = TileView(features, units, tile, attention, [SINGLE_TILE], (32, 32), (32, 32), False)
            cost = sorted(_seconds(lambda view=view, pruner=pruner: pruner.choose(view)) for _ in range(7))[3]
            found[name] = {"ms": round(1000 * cost, 1), "share_of_tower": round(cost / encode_s, 4)}
    return {"tower_ms": round(1000 * encode_s), **found}


def run(repeats: int = 5) -> dict:
    """All of it; some minutes."""
    torch.set_num_threads(2)
    return {
        "repeats": repeats,
        "h_reducer": measure_h_reducer(repeats),
        "pruner_cost": measure_pruner_cost(3),
        "compressor": measure_compressor(repeats),
        "one_page": measure_methods(),
        "two_pages": measure_two_pages(),
        "pages": measure_pages(),
    }

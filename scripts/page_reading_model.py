"""The models of the page-reading experiment: an encoder that knows glyphs, and what is trained on top of it.

The encoder stands for a pretrained CLIP. It learns which glyph is in each patch, and through its class token, whose
attention several pruners go by, which ones are in the tile; then it is frozen, the same for every method of a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from page_reading_data import GLYPH, LABELS, LAYOUTS, LETTERS, PAGE_SIDE, Page, draw_page, draw_pages
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from llava_som.assembly import assemble

TOKENS = ["<pad>", "<image>", ";", *LABELS, *LETTERS, "<unk>"]
IDS = {token: number for number, token in enumerate(TOKENS)}
TILE = 64
VISION = {
    "model_type": "clip_vision_model", "image_size": TILE, "patch_size": GLYPH, "hidden_size": 64, "hidden_act": "gelu",
    "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.07,
}  # fmt: skip
TEXT = {
    "model_type": "llama", "hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.06, "max_position_embeddings": 512,
}  # fmt: skip
BATCH, ENTRIES_A_PAGE, GLYPH_RATE, RATE = 32, 16, 3e-3, 3e-3
FEATURE_SCALE = 3.0  # against embeddings of 0.06: the look-up is found sooner
TEMPLATE = Path(__file__).parents[1] / "llava_som" / "chat_templates" / "vicuna.jinja"  # asked for, not used


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured.

    Attributes:
        glyph_steps: of the encoder.
        steps: of each method.
        easy_steps: of these, the first ones, on sparse pages only: among few entries the look-up is found sooner.
        test_pages: of each layout, with a question each.
        calibration_pages: on which thresholds are set to a budget; not test pages.
    """

    glyph_steps: int = 150
    steps: int = 550
    easy_steps: int = 200
    test_pages: int = 100
    calibration_pages: int = 64


QUICK = Plan(glyph_steps=3, steps=3, easy_steps=1, test_pages=2, calibration_pages=4)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each character."""
    characters = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    characters.decoder = decoders.Fuse()
    special = {"pad_token": "<pad>", "eos_token": ";", "unk_token": "<unk>", "additional_special_tokens": ["<image>"]}
    return PreTrainedTokenizerFast(tokenizer_object=characters, **special)


def build(parts: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """A model with fresh weights and its processor; `parts` are arguments of `assemble`."""
    torch.manual_seed(seed)
    options = {"tiling": "grid_2x2", **parts, "chat_template": str(TEMPLATE), "vision_feature_layer": -1}
    model, processor = assemble(VISION, TEXT, tokenizer=tokenizer(), **options)
    model.config.vision_final_norm = True
    processor.image_processor.image_mean, processor.image_processor.image_std = [0.9] * 3, [0.3] * 3
    return model, processor


def tiles_of(processor: Any, pages: Sequence[Page]) -> dict[str, Tensor]:
    """`pixel_values` and `image_grids` of pages."""
    return dict(processor.image_processor([page.image for page in pages], return_tensors="pt"))


def learn_glyphs(tower: Any, processor: Any, seed: int, steps: int) -> None:
    """Train an encoder on the glyphs of tiled pages, then freeze it.

    In the end its last norm is set so that features have mean 0 and spread `FEATURE_SCALE` over pages. With the large
    mean that all patches share, a fresh decoder did not find the look-up within the steps it has.
    """
    torch.manual_seed(seed)
    of_patch, of_tile = (nn.Linear(VISION["hidden_size"], len(TOKENS)) for _ in range(2))
    learner = Learner([*tower.parameters(), *of_patch.parameters(), *of_tile.parameters()], GLYPH_RATE, steps)
    rng = np.random.default_rng(1000 + seed)
    for _ in range(steps):
        pages = [draw_page(rng, layout) for layout in LAYOUTS for _ in range(4)]
        hidden = _normed(tower, tiles_of(processor, pages)["pixel_values"]).unflatten(0, (len(pages), -1))
        glyphs = glyphs_of_patches(pages)
        patch_loss = F.cross_entropy(of_patch(hidden[:, 1:, 1:]).flatten(0, 2), glyphs.flatten())
        present = F.one_hot(glyphs, len(TOKENS)).amax(dim=2)[..., 1:].float()
        tile_loss = F.binary_cross_entropy_with_logits(of_tile(hidden[:, 1:, 0])[..., 1:], present)
        learner.step(patch_loss + tile_loss)
    with torch.no_grad():
        patches = _normed(tower, tiles_of(processor, draw_pages(1000 + seed, 32))["pixel_values"])[:, 1:]
        mean, spread = patches.mean(dim=(0, 1)), patches.std(dim=(0, 1))
        norm = tower.post_layernorm
        norm.bias.copy_((norm.bias - mean) / spread * FEATURE_SCALE)
        norm.weight.copy_(norm.weight / spread * FEATURE_SCALE)


def glyphs_of_patches(pages: Sequence[Page]) -> Tensor:
    """The token printed on each patch of each crop, `[pages, 4, 64]`; 0 where there is none."""
    lines, side = PAGE_SIDE // GLYPH, TILE // GLYPH
    glyphs = torch.zeros(len(pages), lines, lines, dtype=torch.long)
    for number, page in enumerate(pages):
        for (line, column), entry in zip(page.corners, page.entries.items(), strict=True):
            for place, character in enumerate(entry):
                glyphs[number, line, column + place] = IDS[character]
    return glyphs.view(-1, 2, side, 2, side).permute(0, 1, 3, 2, 4).reshape(len(pages), 4, side * side)


def train(model: Any, processor: Any, seed: int, plan: Plan) -> None:
    """Teach projector, compressor and decoder to read, with pruning if the model has it, the encoder frozen."""
    model.vision_tower.requires_grad_(False)
    learner = Learner([each for each in model.parameters() if each.requires_grad], RATE, plan.steps)
    rng = np.random.default_rng(2000 + seed)
    model.train()
    for step in range(plan.steps):
        layouts = ("sparse",) if step < plan.easy_steps else LAYOUTS
        pages = [draw_page(rng, layouts[number % len(layouts)]) for number in range(BATCH)]
        learner.step(model(**dictation(processor, pages, rng)).loss)
    model.eval()


def dictation(processor: Any, pages: Sequence[Page], rng: np.random.Generator) -> dict[str, Tensor]:
    """A page each, then labels and letters of some of its entries in any order; the letters are to be learned."""
    texts = []
    for page in pages:
        entries = list(page.entries.items())
        chosen = [entries[number] for number in rng.permutation(len(entries))[:ENTRIES_A_PAGE]]
        texts.append("<image>" + "".join(label + letter for label, letter in chosen))
    images = [[page.image] for page in pages]
    inputs = dict(processor(images=images, text=texts, padding=True, padding_side="right", return_tensors="pt"))
    ids = inputs["input_ids"]
    is_letter = (ids >= IDS[LETTERS[0]]) & (ids <= IDS[LETTERS[-1]])
    return {**inputs, "labels": ids.masked_fill(~is_letter, -100)}


class Learner:
    """AdamW with a warm-up and a cosine, over so many steps."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float, steps: int) -> None:
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1, (step + 1) / 50) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))),
        )

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`, clipped to norm 1."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


def _normed(tower: Any, pixel_values: Tensor) -> Tensor:
    return tower.post_layernorm(tower(pixel_values=pixel_values).last_hidden_state)

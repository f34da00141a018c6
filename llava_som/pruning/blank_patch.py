"""Blank paper by its pixels: the plain background detector that every document pruner has to beat.

Not from a paper. What a training-free pruner gains on pages is mostly the removal of blank areas, and those show in
the pixels, before any encoder has run.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llava_som.config_file import option
from llava_som.pruning import PRUNERS
from llava_som.pruning.base import Choice, TilePruner, TileView, check_share, keep_at_least, keep_top, tokens_to_keep


@PRUNERS.register("blank_patch")
@dataclass(frozen=True, kw_only=True)
class BlankPatchPruner(TilePruner):
    """Drops patches whose pixels hardly differ; of a window, all patches have to be blank."""

    threshold: float = option(
        0.07,
        help="standard deviation of normalised pixel values up to which a patch is blank; 0.07 is about 5 of 256 grey "
        "levels with CLIP's normalisation, and above what JPEG leaves on blank paper (at quality 30, up to 0.064)",
    )
    keep_ratio: float | None = option(
        None, help="share of the tokens of a tile that stay, the least blank ones, instead of the threshold"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold < 0:
            raise ValueError(f"threshold={self.threshold}: a standard deviation is never negative. Take 0 or more.")
        if self.keep_ratio is not None:
            check_share("keep_ratio", self.keep_ratio)

    def choose(self, view: TileView) -> Choice:
        """What is not blank, or a fixed share of it."""
        contrast = view.units.largest(contrast_of_patches(view.pixel_values, view.grid))
        inked = contrast > self.threshold
        if self.keep_ratio is None:
            keep = keep_at_least(inked, contrast, self.min_tokens)
        else:
            keep = keep_top(contrast, tokens_to_keep(self.keep_ratio, view.units.count, self.min_tokens))
        return Choice(keep, view.features, contrast, density=inked.float().mean(dim=1))


def contrast_of_patches(pixel_values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Standard deviation of the pixels of each patch, root mean square over the channels, float32 `[N, T]`.

    Args:
        pixel_values: `[N, 3, S, S]`; pixels beyond the last whole patch are ignored, as by encoders.
        grid: rows and columns of patches.
    """
    rows, cols = grid
    height, width = pixel_values.shape[2] // rows, pixel_values.shape[3] // cols
    whole = pixel_values[:, :, : rows * height, : cols * width].float()
    patches = whole.unflatten(2, (rows, height)).unflatten(4, (cols, width))
    return patches.var(dim=(3, 5), correction=0).mean(dim=1).sqrt().flatten(1)

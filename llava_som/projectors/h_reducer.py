"""H-Reducer (mPLUG-DocOwl 1.5, arXiv 2403.12895, section 3.1): a few neighbours of a line of text become one token.

Published as two convolutions whose kernel is also their stride, with a pixel shuffle between them. Nothing crosses the
border of a window, so the whole is an MLP on the patches of each window, and is computed as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llava_som.projectors import PROJECTORS
from llava_som.projectors.base import GroupedProjector


@PROJECTORS.register("h_reducer")
class HReducer(GroupedProjector):
    """`linear(K D, K D)`, GELU, `linear(K D, D)`, `linear(D, D_text)` on windows of K patches.

    With a kernel of 1xK it equals the published module. With a kernel of two dimensions the published one shuffles
    pixels along the width alone, so that its second convolution joins patches that are not neighbours; here a window
    stays a window.

    Args:
        vision_width: D.
        text_width: D_text.
        kernel: height and width of a window, in patches, as a pair or a text such as "1x4".
        eos: a learned vector after the tokens of each tile; the published checkpoints have it.
    """

    def __init__(
        self, vision_width: int, text_width: int, kernel: str | Sequence[int] = (1, 4), eos: bool = False
    ) -> None:
        super().__init__()
        self.window_size = self.window(kernel)
        patches = self.window_size[0] * self.window_size[1]
        self.expand = nn.Linear(patches * vision_width, patches * vision_width)
        self.act = nn.GELU()
        self.reduce = nn.Linear(patches * vision_width, vision_width)
        self.project = nn.Linear(vision_width, text_width)
        self.eos = nn.Parameter(torch.zeros(text_width)) if eos else None

    @classmethod
    def window(cls, kernel: str | Sequence[int] = (1, 4), **options: Any) -> tuple[int, int]:
        """Height and width of the kernel; a ValueError when it is not two positive numbers."""
        try:
            height, width = (int(side) for side in (kernel.split("x") if isinstance(kernel, str) else kernel))
        except (TypeError, ValueError):
            height = width = 0
        if height < 1 or width < 1:
            raise ValueError(f'kernel={kernel!r}: must be height and width in patches, such as "1x4" or [2, 2].')
        return height, width

    @classmethod
    def num_special(cls, eos: bool = False, **options: Any) -> int:
        """One with `eos`."""
        return int(eos)

    def project_windows(self, windows: Tensor) -> Tensor:
        """`[..., height * width, D_vision]` to `[..., D_text]`."""
        return self.project(self.reduce(self.act(self.expand(windows.flatten(-2)))))

    def with_special(self, tokens: Tensor) -> Tensor:
        """`[N, T, D_text]` to `[N, T + 1, D_text]` with `eos`."""
        return tokens if self.eos is None else torch.cat([tokens, self.eos.expand(len(tokens), 1, -1)], dim=1)

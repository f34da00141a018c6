"""VCD, Visual Contrastive Decoding (Leng et al., CVPR 2024, arXiv 2311.16922, section 3).

What the model says of a picture drowned in noise comes from language alone; it is subtracted from what it says of the
picture. The released code patches the sampling loop and silently does nothing in greedy decoding; as a logits processor
it works with greedy search, sampling and beams alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import Intervention
from llava_som.attention.second_stream import Contrast, SecondStream, stream_inputs
from llava_som.attention.session import session_on
from llava_som.config_file import option

_STEPS = 1000


@INTERVENTIONS.register("vcd")
@dataclass(frozen=True, kw_only=True)
class VCD(Intervention):
    """Logits `(1 + alpha) l - alpha l'`, where `l'` are those of the noised picture.

    With another intervention, `VAR() + VCD()`, only the stream that sees the picture is edited: `l'` stands for what
    the model says without evidence, and the other method is there to use evidence better. Temperature, top-p and the
    like come after the contrast; penalties and forbidden tokens, which `generate` applies before, hold.

    It costs a second cache and a second call of the model at each step. Without a picture, nothing changes.
    """

    paper: ClassVar[str] = (
        "Leng et al., Mitigating Object Hallucinations through Visual Contrastive Decoding, CVPR 2024"
    )
    needs_image: ClassVar[bool] = True
    edits_attention: ClassVar[bool] = False

    alpha: float = option(1.0, help="strength of the contrast; 0 switches it off, with the cut")
    beta: float = option(
        0.1, help="tokens below beta times the largest probability are cut; the released code has 0.2 for POPE"
    )
    noise_step: int = option(500, help="how much noise: a step of the diffusion schedule, 0 to 999")
    seed: int = option(0, help="of the noise, which is the same for every picture, so that batches change nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < 0:
            raise ValueError(f"alpha={self.alpha}: must be at least 0 (0 changes nothing).")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta={self.beta}: must be from 0 (no cut) to 1.")
        if not 0 <= self.noise_step < _STEPS:
            raise ValueError(f"noise_step={self.noise_step}: must be from 0 to {_STEPS - 1}.")

    def processor(self, model: Any, inputs: Mapping[str, Any]) -> Contrast | None:
        """The contrast with the noised picture.

        Raises:
            ValueError: images given as features, or what a second stream cannot follow.
        """
        if not self.alpha:
            return None
        for name in ("image_features", "mm_encoder_outputs"):
            if inputs.get(name) is not None:
                raise ValueError(f"{name} was given: VCD adds noise to pixels. Give pixel_values instead.")
        noised = self.noised(model, inputs)
        if not noised:
            warnings.warn(f"VCD changed nothing: {self.idle_reason(False)}.", UserWarning, stacklevel=3)
            return None
        session = session_on(model)
        assert session is not None
        stream = SecondStream(model, stream_inputs(self.name, model, inputs) | noised, session.paused)
        return Contrast(stream, self.alpha, self.beta)

    def noised(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """All pixel values among the arguments of `generate`, with noise."""
        found = {}
        for name, pixels in inputs.items():
            if name.startswith("pixel_values") and isinstance(pixels, Tensor) and pixels.is_floating_point():
                grid = inputs.get("video_grid_thw" if "video" in name else "image_grid_thw")
                found[name] = self._with_noise(pixels, self._noise_like(pixels, grid, model).to(pixels.device))
        return found

    def _with_noise(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """The forward process of diffusion; section 3.1."""
        beta = torch.linspace(-6, 6, _STEPS, dtype=torch.float64).sigmoid() * (5e-3 - 1e-5) + 1e-5
        kept = float((1 - beta).cumprod(dim=0)[self.noise_step])
        return (kept**0.5 * pixels.float() + (1 - kept) ** 0.5 * noise).to(pixels.dtype)

    def _noise_like(self, pixels: Tensor, grid: Tensor | None, model: Any) -> Tensor:
        """The same noise for each picture or tile, `[N, ...]`, or for the flat patches of each, `[S, P]`."""
        generator = torch.Generator().manual_seed(self.seed)
        if grid is None or pixels.ndim != 2:
            return torch.randn(1, *pixels.shape[1:], generator=generator).expand_as(pixels)
        counts = grid.prod(dim=1).tolist()
        frames = _repeated_frames(model, pixels.shape[1]) if (grid[:, 0] == 1).all() else 1
        patches = torch.randn(max(counts), 3, 1, pixels.shape[1] // (3 * frames), generator=generator)
        patches = patches.expand(-1, -1, frames, -1).flatten(1)
        return torch.cat([patches[:count] for count in counts])


def _repeated_frames(model: Any, width: int) -> int:
    """How often a still picture is repeated in a flat patch of a video encoder, channel by channel."""
    vision = getattr(model.config, "vision_config", None)
    frames = getattr(vision, "temporal_patch_size", 1)
    return frames if width % (3 * frames) == 0 else 1

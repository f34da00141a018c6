"""PAI, Pay Attention to Image (Liu et al., ECCV 2024, arXiv 2407.21771, section 4).

The newest token's logits at image keys grow by a share of their size, before softmax; and what the model would say of
the text alone is pushed out of its answer, as in classifier-free guidance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from llava_som.attention import INTERVENTIONS
from llava_som.attention.base import RowFunction
from llava_som.attention.call import LayerCall
from llava_som.attention.decoder import DecoderLayers
from llava_som.attention.second_stream import Contrast, SecondStream, stream_inputs
from llava_som.attention.session import session_on
from llava_som.config_file import option


@INTERVENTIONS.register("pai")
@dataclass(frozen=True, kw_only=True)
class PAI(RowFunction):
    """Attention to the image, at the last query of each call, and logits refined against a stream without images.

    Only a call's last query is edited, as published, so the tokens of a prompt read in chunks or with others after them
    are read differently from the same tokens generated one by one. The stream without images is never edited.
    """

    paper: ClassVar[str] = "Liu et al., Paying More Attention to Image, ECCV 2024, arXiv 2407.21771"
    needs_image: ClassVar[bool] = True

    alpha: float = option(0.2, help="logits s of image keys become s + alpha |s|; 0 leaves attention alone")
    gamma: float = option(1.1, help="weight of the image against text alone; 1 leaves the logits alone")
    cut: float = option(0.1, help="of the refinement: tokens below cut times the largest probability are not said")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha}: must be from 0 to 1; above, low logits would overtake high ones.")
        if self.gamma < 1:
            raise ValueError(f"gamma={self.gamma}: must be at least 1 (1 is without the refinement).")
        if not 0 <= self.cut <= 1:
            raise ValueError(f"cut={self.cut}: must be from 0 (no cut) to 1.")

    def default_layers(self, depth: int) -> Sequence[int]:
        """All but the first two."""
        return range(2, depth)

    def idle_reason(self, had_image: bool) -> str:
        """Why no attention may have changed."""
        return super().idle_reason(had_image) if not had_image else "alpha is 0, or no token looks at the image"

    def first_row(self, call: LayerCall) -> Tensor:
        """The last token."""
        return call.tokens.last

    def rewrite(self, weights: Tensor, scores: Tensor, call: LayerCall, rows: slice) -> Tensor:
        """Softmax with the raised logits; what earlier interventions did to a row remains, as a factor."""
        is_image = call.of_keys(call.tokens.is_image)[:, None, None, : weights.shape[-1]]
        raised = torch.where(is_image & scores.isfinite(), self.alpha * scores.abs(), 0.0)
        unseen = 1 - weights.sum(dim=-1, keepdim=True)  # what no key gets (the sink logit of gpt-oss) counts as well
        logits = torch.cat([weights.log() + raised, unseen.clamp(min=0.0).log()], dim=-1)
        return logits.softmax(dim=-1)[..., :-1].nan_to_num(0.0)  # a row of padding may see nothing

    def reweight(
        self,
        attention: Tensor,
        hidden: Tensor,
        is_image: Tensor,
        *,
        observed: Tensor | None = None,
        scores: Tensor | None = None,
    ) -> Tensor:
        """Section 4.1 on the last row; `scores` are the decoder's logits, `[B, H, Q, K]`, which weights do not tell."""
        if scores is None:
            raise ValueError("PAI depends on the size of logits: give scores, [B, H, Q, K].")
        factors = (self.alpha * scores[..., -1, :].double().abs()).exp()
        factors = torch.where(is_image[:, None] & (attention[..., -1, :] > 0), factors, 1.0)
        grown = attention[..., -1, :] * factors
        others = 1 - attention[..., -1, :].sum(dim=-1, keepdim=True)
        edited = attention.clone()
        edited[..., -1, :] = (grown / (grown.sum(dim=-1, keepdim=True) + others)).to(attention)
        return edited

    def processor(self, model: Any, inputs: Mapping[str, Any]) -> Contrast | None:
        """`gamma (log p - log p') + log p'` with `p'` of the text alone; section 4.2.

        Raises:
            ValueError: a prompt without text, or what a second stream cannot follow.
        """
        if self.gamma == 1:
            return None
        given = stream_inputs(self.name, model, inputs)
        text = without_images(model, given)
        if text is None:
            return None
        session = session_on(model)
        assert session is not None
        return Contrast(SecondStream(model, text, session.paused), self.gamma - 1, self.cut)


def without_images(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Inputs of a batch without its images, left-padded; None where there are none.

    Placeholders go, and what marks their start and end where the model's config names it.

    Raises:
        ValueError: a prompt of images alone.
    """
    config = DecoderLayers.of(model).model.config
    ids, is_token = inputs["input_ids"], inputs["attention_mask"].bool()
    known = DecoderLayers.of(model).image_tokens()
    is_image = torch.isin(ids, torch.tensor(sorted(known), dtype=ids.dtype, device=ids.device))
    if not is_image.any():
        return None
    marks = {getattr(config, f"vision_{end}_token_id", None) for end in ("start", "end")} - {None}
    is_mark = torch.isin(ids, torch.tensor(sorted(marks), dtype=ids.dtype, device=ids.device))
    kept = [row[keep] for row, keep in zip(ids, is_token & ~is_image & ~is_mark, strict=True)]
    if not all(len(row) for row in kept):
        raise ValueError(
            "A prompt is images alone, so PAI has no text to compare with. Ask a question, or set gamma=1."
        )
    longest = max(map(len, kept))
    padded, mask = ids.new_zeros(len(ids), longest), inputs["attention_mask"].new_zeros(len(ids), longest)
    for number, row in enumerate(kept):
        padded[number, longest - len(row) :], mask[number, longest - len(row) :] = row, 1
    named = {key: value for key, value in inputs.items() if key.endswith("_token_id")}
    return {"input_ids": padded, "attention_mask": mask, **named}

"""Attention maps as one HTML file that loads nothing: the image and all rows are in it, a script draws them."""

from __future__ import annotations

import base64
import io

import numpy as np

from llava_som.attention_maps import AttentionMaps
from llava_som.attention_pictures import (
    DIMMED,
    HEAT_OPACITY,
    INFERNO,
    SINK,
    caption_lines,
    framed,
    has_dropped,
    top_counts,
)
from llava_som.viewer.page import render_page
from llava_som.visualize import VEIL

_LONGEST_SIDE = 640  # pixels of a picture in the page
_STEPS = 65535


def attention_page(maps: AttentionMaps) -> str:
    """The page: heat by layer range of the question, the answer and each of its tokens, chosen by pointing at it."""
    image = framed(maps.image, maps.places, _LONGEST_SIDE)
    encoded = io.BytesIO()
    image.save(encoded, format="JPEG", quality=88)
    left, top, right, bottom = maps.places.frame
    width, height = right - left, bottom - top
    views = [
        {
            "box": [
                (b - start) / length
                for b, start, length in zip(view.box, (left, top) * 2, (width, height) * 2, strict=True)
            ],
            "tokens": view.tokens.tolist(),
        }
        for view in maps.places.views
    ]
    other = None if maps.other_answer is None else f"With {maps.intervention}: {maps.other_answer.strip() or '(none)'}"
    data = {
        "image": f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}",
        "size": [max(1, round(_LONGEST_SIDE * side / max(image.size))) for side in image.size],
        "views": views,
        "count": maps.places.count,
        "areas": maps.places.cells_of_tokens.tolist(),
        "ranges": [str(layers) for layers in maps.ranges],
        "sides": [name for name, _ in maps.sides],
        "panels": [_rows(maps, weights, number) for number in range(len(maps.ranges)) for _, weights in maps.sides],
        "sinks": [np.flatnonzero(sinks).tolist() for sinks in maps.is_sink],
        "question": maps.question,
        "tokens": [token.text for token in maps.tokens],
        "tags": [tag.tokens for tag in maps.tags],
        "other": other,
        "caption": [*caption_lines(maps), *(["Blue: dropped by pruning."] if has_dropped(maps) else [])],
        "top": top_counts(maps)[1],
        "colours": INFERNO,
        "opacity": HEAT_OPACITY,
        "dimmed": DIMMED,
        "veil": VEIL,
        "sink": SINK,
    }
    return render_page(data, "attention", ("attention.js",))


def _rows(maps: AttentionMaps, weights_GRN: np.ndarray, number: int) -> dict[str, object]:
    """Rows of one panel: question, answer, then each token; in steps of 1/65535 of the most in each row."""
    answer = maps.of_answer(weights_GRN) if maps.tokens else np.zeros_like(maps.of_question(weights_GRN))
    means = np.stack([maps.of_question(weights_GRN)[number], answer[number]])
    rows = np.concatenate([means, weights_GRN[number, maps.prompt_rows :]])
    most = rows.max(axis=1, initial=0.0)
    steps = np.divide(rows * _STEPS, most[:, None], out=np.zeros_like(rows), where=most[:, None] > 0)
    content = steps.round().astype("<u2").tobytes()
    return {"most": [float(value) for value in most], "values": base64.b64encode(content).decode()}

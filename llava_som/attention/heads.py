"""Which heads of which model an intervention edits: a file that says what it belongs to."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_som.attention.decoder import DecoderLayers
from llava_som.files import new_file


@dataclass(frozen=True)
class HeadChoice:
    """Heads by layer, of one decoder.

    Attributes:
        heads: numbers of heads by number of the layer.
        decoder: model type, layers, heads and width of the decoder for which they were chosen.
        source: where they come from, for errors.
    """

    heads: dict[int, list[int]]
    decoder: dict[str, Any]
    source: str = "heads"

    @classmethod
    def load(cls, file: Path | str) -> HeadChoice:
        """Read a heads.json; a ValueError for a file that is none."""
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            heads = {int(layer): list(map(operator.index, heads)) for layer, heads in content["heads"].items()}
            return cls(heads, dict(content["decoder"]), f"heads={file}")
        except OSError as error:
            raise ValueError(f"heads={file}: cannot be read ({error.strerror}).") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"heads={file}: is no file of heads ({error!r}). It holds "
                '{"decoder": {...}, "heads": {"12": [3, 7]}}; llava-som calibrate writes one.'
            ) from None

    def save(self, file: Path, **about: Any) -> None:
        """Write a heads.json, with further facts about how the heads were chosen."""
        by_layer = {str(layer): sorted(heads) for layer, heads in sorted(self.heads.items())}
        content = {"decoder": self.decoder, "heads": by_layer, **about}
        with new_file(file) as written:
            written.write(json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")

    def for_decoder(self, decoder: DecoderLayers) -> dict[int, list[int]]:
        """The heads; a ValueError where they were chosen for another decoder."""
        own = described(decoder)
        if differing := [key for key in own if self.decoder.get(key) != own[key]]:
            told = ", ".join(f"{key} {self.decoder.get(key)!r} (this model: {own[key]!r})" for key in differing)
            raise ValueError(f"{self.source}: its heads were chosen for another model: {told}. Calibrate this one.")
        return self.heads


def described(decoder: DecoderLayers) -> dict[str, Any]:
    """What tells decoders apart."""
    return {
        "model_type": decoder.config.model_type,
        "layers": len(decoder.modules),
        "heads": decoder.heads,
        "width": decoder.width,
    }


def checked_heads(heads: list[int] | dict[int, list[int]] | None, decoder: DecoderLayers) -> None:
    """A ValueError for heads or layers that the decoder does not have."""
    depth = len(decoder.modules)
    if isinstance(heads, dict) and (wrong := [layer for layer in heads if not 0 <= layer < depth]):
        raise ValueError(f"heads of layers {wrong}: this decoder has {depth} layers; allowed are 0 to {depth - 1}.")
    by_place = (
        {f" of layer {layer}": chosen for layer, chosen in heads.items()} if isinstance(heads, dict) else {"": heads}
    )
    for place, chosen in by_place.items():
        if wrong := [head for head in chosen or () if not 0 <= head < decoder.heads]:
            raise ValueError(
                f"heads={wrong}{place}: this decoder has {decoder.heads}; allowed are 0 to {decoder.heads - 1}."
            )

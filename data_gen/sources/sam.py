"""Regions from a segment-anything model: what a grid of points finds, with any SAM, SAM-HQ, SAM2 or SAM3 checkpoint.

transformers' mask-generation pipeline does the work (point grid, predicted IoU, stability, box NMS). A SAM3 checkpoint
is used through its point-prompted tracker, which finds everything; its text-prompted half finds only what is named.

For each point SAM predicts a whole, a part and a subpart (arXiv 2304.02643, Sec. 3), so the masks of an image nest.
`level` chooses among them, as the six levels of Semantic-SAM (arXiv 2307.04767) do for a click. SAM was not trained
for levels: here they are ranks in the nesting, see `at_level`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef
from data_gen.sources.checkpoint import Job, ModelSource, load_checkpoint
from llava_som.config_file import option
from llava_som.marks.region import Region

FINEST = 6

# Promptable processors by model: those of published SAM2 and SAM3 checkpoints are for video.
PROCESSORS = {
    "SamModel": "SamProcessor",
    "SamHQModel": "SamHQProcessor",
    "Sam2Model": "Sam2Processor",
    "Sam3TrackerModel": "Sam3TrackerProcessor",
}


def read_processor(model: Any, checkpoint: str) -> Any:
    """The processor that turns points and boxes on images into prompts for this model."""
    import transformers

    name = PROCESSORS.get(type(model).__name__, "AutoProcessor")
    return getattr(transformers, name).from_pretrained(checkpoint, trust_remote_code=False)


MASKS = Job(
    purpose="mask generation",
    families="SAM, SAM-HQ, SAM2 or SAM3",
    model_class="AutoModelForMaskGeneration",
    read_processor=read_processor,
)


@SOURCES.register("sam")
@dataclass(frozen=True, kw_only=True)
class SamSource(ModelSource):
    """Segment-anything masks from any SAM, SAM2 or SAM3 checkpoint; the segments have no names."""

    transient_fields: ClassVar[frozenset[str]] = ModelSource.transient_fields | {"points_per_batch"}
    has_names: ClassVar[bool] = False

    checkpoint: str = option("facebook/sam2.1-hiera-large", help="a hub name or a folder")
    points_per_side: int = option(32, help="points of the prompt grid along each side")
    points_per_batch: int = option(64, help="points decoded together; less needs less memory")
    min_predicted_iou: float = option(0.88, help="drop masks the model rates below this")
    min_stability: float = option(0.92, help="drop masks that change more than this allows when the threshold moves")
    box_nms_iou: float = option(0.7, help="of two masks whose boxes overlap more than this, the better rated stays")
    level: Literal["all", 1, 2, 3, 4, 5, 6] = option(
        "all", help="granularity: 1 keeps the largest masks over each place, 6 the smallest; all keeps every mask"
    )
    clean_up_px: int = option(0, help="fill holes and drop islands below so many pixels; 0 leaves masks as found")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("points_per_side", 1), ("points_per_batch", 1), ("clean_up_px", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {least}.")

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """The masks that pass the filters, best rated first; `score` is the predicted IoU."""
        pipeline = self._pipeline
        with self.inference(pipeline.model):
            found = pipeline(
                image,
                points_per_crop=self.points_per_side,
                points_per_batch=self.points_per_batch,
                pred_iou_thresh=self.min_predicted_iou,
                stability_score_thresh=self.min_stability,
                crops_nms_thresh=self.box_nms_iou,
            )
        rated = zip(found["masks"], found["scores"], strict=True)
        regions = [
            Region.from_mask(np.asarray(mask, dtype=bool), score=float(score), source="sam")
            for mask, score in rated
            if mask.any()
        ]
        if self.clean_up_px:
            regions = cleaned(regions, self.clean_up_px, self.box_nms_iou)
        return regions if self.level == "all" else at_level(regions, self.level)

    @property
    def _pipeline(self) -> Any:
        """The mask-generation pipeline around this process's model."""
        from transformers import pipeline

        model, processor = load_checkpoint(MASKS, self.checkpoint, self.device)
        return pipeline("mask-generation", model=model, image_processor=processor.image_processor, device=model.device)


def at_level(regions: Sequence[Region], level: int) -> list[Region]:
    """The regions of one granularity, in the order given.

    The regions over a pixel, from the largest to the smallest, are its chain. Level 1 picks the first of each chain,
    level 6 the last, those between in even steps; of a chain of three, two levels each pick whole, part and subpart.
    Regions are taken by the share of their pixels that pick them, unless more than half is covered by those taken
    before. So the regions of a level hardly overlap, and whatever it leaves out, it covers.

    Args:
        regions: of one image, nested in any way.
        level: 1 (coarsest) to 6 (finest).
    """
    if not regions:
        return []
    chain_length, larger = np.zeros((2, *regions[0].image_size[::-1]), np.int16)
    for region in regions:
        chain_length[region.window] += region.mask
    picked = np.zeros(len(regions))
    for index in sorted(range(len(regions)), key=lambda k: -regions[k].area):
        region = regions[index]
        last = chain_length[region.window][region.mask] - 1
        wanted = np.rint(last * ((level - 1) / (FINEST - 1)))
        picked[index] = np.mean(larger[region.window][region.mask] == wanted)
        larger[region.window] += region.mask
    covered = np.zeros(chain_length.shape, bool)
    kept = []
    for index in np.argsort(-picked, kind="stable").tolist():
        region = regions[index]
        if np.mean(covered[region.window][region.mask]) <= 0.5:
            kept.append(index)
            covered[region.window] |= region.mask
    return [regions[index] for index in sorted(kept)]


def cleaned(regions: Sequence[Region], smallest: int, nms_iou: float) -> list[Region]:
    """Regions without holes and islands below `smallest` pixels, and without those that this has made duplicates.

    Of two whose boxes then overlap more than `nms_iou`, the one that needed no change stays, else the earlier one.
    """
    changed = [without_small_parts(region, smallest) for region in regions]
    untouched = [new is old for new, old in zip(changed, regions, strict=True)]
    ranking = sorted(range(len(regions)), key=lambda k: not untouched[k])
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (region.bbox_xywh for region in changed)]
    return [changed[k] for k in sorted(distinct_boxes(boxes, ranking, nms_iou))]


def distinct_boxes(boxes: Sequence[Sequence[float]], ranking: Sequence[int], iou: float) -> list[int]:
    """Indices of boxes (left, top, right, bottom), best first, without those that overlap a better one more than `iou`.

    Args:
        boxes: of one image.
        ranking: indices of those to choose from, the best first.
        iou: intersection over union from which on two boxes are the same.
    """
    import torch
    from torchvision.ops import nms

    if not ranking:
        return []
    ranked = torch.tensor([list(boxes[k]) for k in ranking], dtype=torch.float32)
    kept = nms(ranked, -torch.arange(len(ranked), dtype=torch.float32), iou)
    return [ranking[k] for k in kept.tolist()]


def without_small_parts(region: Region, smallest: int) -> Region:
    """The region with enclosed holes below `smallest` pixels filled, then islands below it dropped.

    The largest island always stays. A region that has neither is returned itself.
    """
    mask = np.pad(region.mask, 1)
    labels, areas = components(~mask)
    hole = areas < smallest
    hole[0] = hole[labels[0, 0]] = False  # the region itself, and everything around it
    labels, areas = components(mask | hole[labels])
    island = areas < smallest
    island[0], island[1 + np.argmax(areas[1:])] = True, False
    cut = ~island[labels][1:-1, 1:-1]
    return region if np.array_equal(cut, region.mask) else replace(region, mask=cut)


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of a mask, corners included: labels [h, w] (0 outside) and the area of each label [n + 1]."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return labels, stats[:, cv2.CC_STAT_AREA]

"""Regions from a segment-anything model: what a grid of points finds, with any SAM, SAM-HQ, SAM2 or SAM3 checkpoint.

transformers' mask-generation pipeline does the work (point grid, predicted IoU, stability, box NMS). A SAM3 checkpoint
is used through its point-prompted tracker, which finds everything; its text-prompted half finds only what is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import FileSource, ImageRef
from llava_som.config_file import option
from llava_som.marks.region import Region


@SOURCES.register("sam")
@dataclass(frozen=True, kw_only=True)
class SamSource(FileSource):
    """Segment-anything masks from any SAM, SAM2 or SAM3 checkpoint; the segments have no names."""

    checkpoint: str = option("facebook/sam2.1-hiera-large", help="a hub name or a folder")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    points_per_side: int = option(32, help="points of the prompt grid along each side")
    points_per_batch: int = option(64, help="points decoded together; less needs less memory")
    min_predicted_iou: float = option(0.88, help="drop masks the model rates below this")
    min_stability: float = option(0.92, help="drop masks that change more than this allows when the threshold moves")
    box_nms_iou: float = option(0.7, help="of two masks whose boxes overlap more than this, the better rated stays")

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """The masks that pass the filters, best rated first; `score` is the predicted IoU."""
        found = self._pipeline(
            image,
            points_per_crop=self.points_per_side,
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=self.min_predicted_iou,
            stability_score_thresh=self.min_stability,
            crops_nms_thresh=self.box_nms_iou,
        )
        rated = zip(found["masks"], found["scores"], strict=True)
        return [
            Region.from_mask(np.asarray(mask, dtype=bool), score=float(score), source="sam")
            for mask, score in rated
            if mask.any()
        ]

    @cached_property
    def _pipeline(self) -> Any:
        """The mask-generation pipeline; loaded by each process that needs it, on first use."""
        import torch
        from transformers import pipeline

        gpu_or_cpu = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            return pipeline(
                "mask-generation",
                model=self.checkpoint,
                device=gpu_or_cpu if self.device == "auto" else self.device,
                trust_remote_code=False,
            )
        except (OSError, ValueError, KeyError) as error:
            raise OSError(
                f"checkpoint={self.checkpoint} cannot be loaded for mask generation. Give the folder or the "
                f"hub name of a SAM, SAM2 or SAM3 checkpoint ({error})."
            ) from error

"""Regions from a panoptic segmentation model: every object and every background area of an image, with class names.

Any universal segmentation checkpoint of transformers serves: Mask2Former (arXiv 2112.01527), OneFormer (2211.06220),
EoMT (2503.19108). Things are countable (a cup), stuff is not (sky): the segments of one stuff class become one region.
That merging is done here: transformers' own (5.23) hands out segment numbers twice after it has merged.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef
from data_gen.sources.checkpoint import CheckpointError, Job, Loaded, ModelSource, load_checkpoint
from data_gen.sources.coco import readable_name
from llava_som.config_file import option
from llava_som.marks.region import Region
from llava_som.registry import closest_match_message

# Which class numbers are stuff, by first class and number of classes. No checkpoint states it; the numbers are those
# of the data sets: COCO panoptic (its 80 things come first), COCO instances, ADE20K (as in Mask2Former), Cityscapes.
# fmt: off
ADE20K_STUFF = {
    0, 1, 2, 3, 4, 5, 6, 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59, 60, 61, 63, 68, 77, 79,
    84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128, 131, 140, 141, 145,
}
# fmt: on
STUFF = {
    ("person", 133): range(80, 133),
    ("person", 80): range(0),
    ("wall", 150): ADE20K_STUFF,
    ("road", 19): range(11),
}


def read_processor(model: Any, checkpoint: str) -> Any:
    """The processor of a universal segmentation checkpoint.

    OneFormer's would fetch a file of class names from another hub repository, which only training needs.
    """
    from transformers import AutoProcessor

    without_names = {"class_info_file": None} if model.config.model_type == "oneformer" else {}
    return AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False, **without_names)


PANOPTIC = Job(
    purpose="panoptic segmentation",
    families="Mask2Former, OneFormer or EoMT",
    model_class="AutoModelForUniversalSegmentation",
    read_processor=read_processor,
)


@SOURCES.register("panoptic")
@dataclass(frozen=True, kw_only=True)
class PanopticSource(ModelSource):
    """Named objects and background areas by a Mask2Former, OneFormer or EoMT checkpoint."""

    checkpoint: str = option("facebook/mask2former-swin-large-coco-panoptic", help="a hub name or a folder")
    threshold: float = option(0.8, help="drop segments whose class the model is less sure of than this")
    mask_threshold: float = option(0.5, help="a pixel belongs to a mask from this probability on")
    overlap_mask_area_threshold: float = option(
        0.8, help="drop a segment of whose mask no more than this share remains after stronger segments took theirs"
    )
    only_things: bool = option(False, help="countable objects only, no background areas such as sky")
    stuff: tuple[str, ...] | None = option(
        None, help="the classes that are not countable; by default those of COCO, ADE20K or Cityscapes"
    )

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """One region for each object and each background class, disjoint, in the order of the model's queries.

        `score` is the probability of the class, of merged segments the highest; `id` numbers the segments from 0.
        """
        loaded = load_checkpoint(PANOPTIC, self.checkpoint, self.device)
        names = class_names(loaded.model, self.checkpoint)
        stuff = self._stuff(names)
        found = self._segments(loaded, image)
        numbers = found["segmentation"].cpu().numpy()
        regions: list[Region] = []
        for parts in merged(found["segments_info"], stuff):
            label = parts[0]["label_id"]
            if self.only_things and label in stuff:
                continue
            mask = np.logical_or.reduce([numbers == part["id"] for part in parts])
            score = max(part["score"] for part in parts)
            regions.append(
                Region.from_mask(mask, name=names[label], score=score, source="panoptic", id=str(len(regions)))
            )
        return regions

    def _segments(self, loaded: Loaded, image: Image.Image) -> dict[str, Any]:
        """What the model and its post-processing find: `segmentation` [H, W] of segment numbers, `segments_info`."""
        model, processor = loaded
        images = getattr(processor, "image_processor", processor)
        in_words = {"task_inputs": ["panoptic"]} if model.config.model_type == "oneformer" else {}
        inputs = processor(images=image, return_tensors="pt", **in_words).to(model.device)
        with self.inference(model):
            outputs = model(**inputs)
        for logits in ("class_queries_logits", "masks_queries_logits"):
            outputs[logits] = outputs[logits].float()
        parameters = inspect.signature(images.post_process_panoptic_segmentation).parameters
        merge_none: dict[str, Any] = {"label_ids_to_fuse": set()} if "label_ids_to_fuse" in parameters else {}
        (found,) = images.post_process_panoptic_segmentation(
            outputs,
            threshold=self.threshold,
            mask_threshold=self.mask_threshold,
            overlap_mask_area_threshold=self.overlap_mask_area_threshold,
            target_sizes=[image.size[::-1]],
            **merge_none,
        )
        return found

    def _stuff(self, names: dict[int, str]) -> set[int]:
        """The numbers of the classes that are not countable."""
        if self.stuff is None:
            known = STUFF.get((names.get(0, ""), len(names)))
            if known is None and self.only_things:
                raise CheckpointError(
                    f"only_things=True: which of the {len(names)} classes of {self.checkpoint} are things is not "
                    "known. Name those that are not: stuff=[sky,grass]."
                )
            return set(known or ())
        for name in self.stuff:
            if name not in names.values():
                raise CheckpointError(closest_match_message("class", name, set(names.values())))
        return {number for number, name in names.items() if name in self.stuff}


def class_names(model: Any, checkpoint: str) -> dict[int, str]:
    """Class numbers to names as a person says them: of "road, route" the first, of "wall-other-merged" the wall."""
    names = {
        number: readable_name(label.split(",")[0].strip()) for number, label in sorted(model.config.id2label.items())
    }
    if all(name == f"LABEL_{number}" for number, name in names.items()):
        raise CheckpointError(
            f"checkpoint={checkpoint} has no class names. Write them into id2label of its config.json."
        )
    return names


def merged(segments: Iterable[dict[str, Any]], stuff: set[int]) -> list[list[dict[str, Any]]]:
    """Segments that make one region together: those of one stuff class, and each of the others alone."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for segment in segments:
        label = segment["label_id"]
        key = ("class", label) if label in stuff else ("segment", segment["id"])
        groups.setdefault(key, []).append(segment)
    return list(groups.values())

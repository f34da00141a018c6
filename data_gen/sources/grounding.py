"""Regions named by phrases: a detector finds a box for each phrase, a segment-anything model cuts the box out.

The detector is Grounding DINO (arXiv 2303.05499), MM Grounding DINO, OWL-ViT or OWLv2 (2306.09683); the Set-of-Mark
paper (2310.11441) marks Flickr30k with Grounding DINO and SAM. Grounding DINO reads all phrases as one text and scores
its tokens; here a phrase has the score of its best token, so a region's name is a phrase as it was asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef, read_json, refs_of
from data_gen.sources.checkpoint import Job, Loaded, ModelSource, load_checkpoint
from data_gen.sources.sam import MASKS, distinct_boxes
from llava_som.config_file import option
from llava_som.marks.region import Region

BOXES_PER_BATCH = 32  # decoded together; bounds memory, changes nothing else
FORM = 'Write {"IMAGE FILE": ["a red cup", "dog"], ...}.'


def read_processor(model: Any, checkpoint: str) -> Any:
    """The processor of a detector; a ValueError for those that are asked in another way."""
    from transformers import AutoProcessor

    if model.config.model_type not in DETECTORS:
        raise ValueError(f"it is a {model.config.model_type} checkpoint")
    return AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)


DETECTION = Job(
    purpose="finding phrases",
    families="Grounding DINO, MM Grounding DINO, OWLv2 or OWL-ViT",
    model_class="AutoModelForZeroShotObjectDetection",
    read_processor=read_processor,
)
SEGMENTATION = replace(MASKS, option="segmenter")


class Detection(NamedTuple):
    """A box (left, top, right, bottom; pixels), which may reach out of the image, and the phrase it was found for."""

    box: tuple[float, float, float, float]
    phrase: str
    score: float


@SOURCES.register("grounding")
@dataclass(frozen=True, kw_only=True)
class GroundingSource(ModelSource):
    """Phrases to boxes by Grounding DINO or OWLv2, boxes to masks by SAM; a region is named by its phrase."""

    checkpoint: str = option("IDEA-Research/grounding-dino-base", help="the detector: a hub name or a folder")
    segmenter: str | None = option(
        "facebook/sam2.1-hiera-large", help="a SAM, SAM2 or SAM3 checkpoint; null: the region is the box itself"
    )
    phrases: tuple[str, ...] = option((), help="what to find in every image: [red cup,dog]")
    phrases_file: Path | None = option(None, help=f"or what to find in which image, JSON. {FORM}")
    threshold: float = option(0.27, help="drop boxes scored below this; OWLv2 scores lower, try 0.1")
    box_nms_iou: float = option(
        0.7, help="of two boxes that overlap more than this, the better rated stays, whatever their phrases"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.phrases) == bool(self.phrases_file):
            raise ValueError(
                f"phrases={list(self.phrases)}, phrases_file={self.phrases_file}: give one of the two, "
                "phrases=[red cup,dog] for all images or a JSON file that has phrases for each."
            )
        checked_phrases(self.phrases, "phrases")

    def refs(self) -> Sequence[ImageRef]:
        """Every image file; with a phrases_file, the images that it names, in its order."""
        if not self.phrases_file:
            return super().refs()
        asked = read_phrases(self.phrases_file)
        if self.images.is_file():
            if self.images.name not in asked:
                raise ValueError(f"{self.phrases_file}: has no phrases for {self.images.name}. {FORM}")
            asked = {self.images.name: asked[self.images.name]}
        return refs_of([Path(file) for file in asked], list(asked.values()))

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """One region for each box that remains, best rated first; `score` is the detector's."""
        found = self._boxes(image, tuple(dict.fromkeys(self.phrases or ref.annotations)))
        masks = self._masks(image, [detection.box for detection in found])
        regions = []
        for detection, mask in zip(found, masks, strict=True):
            facts: Any = {"name": detection.phrase, "score": detection.score, "source": "grounding"}
            if mask is not None and mask.any():
                regions.append(Region.from_mask(mask, **facts))
            else:  # an empty mask is the segmenter's failure, not the detector's: the phrase keeps its box
                left, top, right, bottom = detection.box
                regions.append(Region.from_box((left, top, right - left, bottom - top), image.size, **facts))
        return regions

    def _boxes(self, image: Image.Image, phrases: tuple[str, ...]) -> list[Detection]:
        """Detections above the threshold, cut to the image (to a pixel at least), without duplicates, best first."""
        if not phrases:
            return []
        loaded = load_checkpoint(DETECTION, self.checkpoint, self.device)
        detect = DETECTORS[loaded.model.config.model_type]
        with self.inference(loaded.model):
            found = list(detect(loaded, image, phrases, self.threshold))
        found = [detection._replace(box=cut(detection.box, image.size)) for detection in found]
        boxes = [detection.box for detection in found]
        inside = [k for k, (left, top, right, bottom) in enumerate(boxes) if right - left >= 1 <= bottom - top]
        ranking = sorted(inside, key=lambda k: -found[k].score)
        return [found[k] for k in distinct_boxes(boxes, ranking, self.box_nms_iou)]

    def _masks(self, image: Image.Image, boxes: Sequence[tuple[float, ...]]) -> list[np.ndarray | None]:
        """A mask [H, W] for each box; None without a segmenter."""
        if self.segmenter is None or not boxes:
            return [None] * len(boxes)
        loaded = load_checkpoint(SEGMENTATION, self.segmenter, self.device)
        with self.inference(loaded.model):
            return list(box_masks(loaded, image, boxes))


def read_phrases(file: Path) -> dict[str, tuple[str, ...]]:
    """Image file name -> its phrases; none is allowed."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(Path(f).name and isinstance(v, list) for f, v in content.items()):
        raise ValueError(f"{file}: is not a file of phrases. {FORM}")
    return {name: checked_phrases(phrases, f"{file}: {name}") for name, phrases in content.items()}


def checked_phrases(phrases: Sequence[Any], owner: str) -> tuple[str, ...]:
    """The phrases, or a ValueError that begins with `owner` when one of them says nothing."""
    for phrase in phrases:
        if not isinstance(phrase, str) or not any(character.isalnum() for character in phrase):
            raise ValueError(f"{owner}: {phrase!r} is not a phrase. Write words, such as a red cup.")
    return tuple(phrases)


def boxes_by_token(loaded: Loaded, image: Image.Image, phrases: Sequence[str], threshold: float) -> Iterator[Detection]:
    """What Grounding DINO finds: it scores the tokens of a text for every box.

    Raises:
        ValueError: a phrase longer than the model's whole text may be.
    """
    import torch
    from transformers.image_transforms import center_to_corners_format

    model, processor = loaded
    for part in parts_of_text(phrases, processor.tokenizer, model.config.max_text_len):
        text = "".join(f"{plain(phrase)}. " for phrase in part).strip()
        inputs = processor(images=image, text=text, return_tensors="pt").to(model.device)
        outputs = model(**inputs)
        scores_QT = outputs.logits[0].float().sigmoid()
        tokens = tokens_of_phrases(text, processor.tokenizer)
        scores_QP = torch.stack([scores_QT[:, own].amax(dim=1) for own in tokens], dim=1)
        scores, best = scores_QP.max(dim=1)
        corners: Any = center_to_corners_format(outputs.pred_boxes[0].float())
        boxes = corners.cpu() * torch.tensor(image.size * 2)
        for query in torch.nonzero(scores > threshold).flatten().tolist():
            yield Detection(tuple(boxes[query].tolist()), part[int(best[query])], float(scores[query]))


def boxes_by_phrase(
    loaded: Loaded, image: Image.Image, phrases: Sequence[str], threshold: float
) -> Iterator[Detection]:
    """What OWLv2 finds: it embeds every phrase by itself.

    Raises:
        ValueError: a phrase longer than the model reads.
    """
    model, processor = loaded
    limit = model.config.text_config.max_position_embeddings
    for phrase in phrases:
        require_length(phrase, len(processor.tokenizer(phrase)["input_ids"]), limit)
    inputs = processor(images=image, text=[list(phrases)], return_tensors="pt").to(model.device)
    outputs = model(**inputs)
    outputs["logits"], outputs["pred_boxes"] = outputs.logits.float(), outputs.pred_boxes.float()
    (found,) = processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, target_sizes=[image.size[::-1]]
    )
    for box, label, score in zip(*(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True):
        yield Detection(tuple(box), phrases[label], score)


DETECTORS = {
    "grounding-dino": boxes_by_token,
    "mm-grounding-dino": boxes_by_token,
    "owlv2": boxes_by_phrase,
    "owlvit": boxes_by_phrase,
}


def plain(phrase: str) -> str:
    """A phrase as Grounding DINO was trained on them: lower case, without the full stops that end a phrase."""
    return " ".join(re.sub("[.?]", " ", phrase).lower().split())


def parts_of_text(phrases: Sequence[str], tokenizer: Any, limit: int) -> list[list[str]]:
    """The phrases in as few lists as the length of one text allows, in order."""
    room = limit - 2  # for the tokens that open and close a text
    parts: list[list[str]] = []
    left = 0
    for phrase in phrases:
        length = len(tokenizer(f"{plain(phrase)}.", add_special_tokens=False)["input_ids"])
        require_length(phrase, length, room)
        if length > left:
            parts.append([])
            left = room
        parts[-1].append(phrase)
        left -= length
    return parts


def require_length(phrase: str, length: int, limit: int) -> None:
    """A ValueError when a phrase has more tokens than the detector reads."""
    if length > limit:
        raise ValueError(f"the phrase {phrase!r} has {length} tokens; this detector reads {limit}. Shorten it.")


def tokens_of_phrases(text: str, tokenizer: Any) -> list[list[int]]:
    """For each phrase of a text "a dog. red cup." the positions of its tokens."""
    ends = [match.start() for match in re.finditer(r"\.", text)]
    tokens: list[list[int]] = [[] for _ in ends]
    for position, (start, stop) in enumerate(tokenizer(text, return_offsets_mapping=True)["offset_mapping"]):
        if start < stop and text[start] != ".":
            tokens[bisect_left(ends, start)].append(position)
    return tokens


def cut(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a box that lies in the image; narrower than a pixel when none does."""
    left, top, right, bottom = (min(max(value, 0.0), limit) for value, limit in zip(box, size * 2, strict=True))
    return left, top, right, bottom


def box_masks(loaded: Loaded, image: Image.Image, boxes: Sequence[Sequence[float]]) -> Iterator[np.ndarray]:
    """The mask, bool [H, W], that a segment-anything model finds in each box; it sees the image once."""
    model, processor = loaded
    inputs = processor(images=image, input_boxes=[[list(box) for box in boxes]], return_tensors="pt")
    prompts = inputs["input_boxes"].float().to(model.device)  # [1, boxes, 4]
    seen = model.get_image_embeddings(inputs["pixel_values"].to(model.device))
    names = ("image_embeddings", "intermediate_embeddings")  # SAM-HQ has both
    embeddings = dict(zip(names, seen, strict=True)) if isinstance(seen, tuple) else {names[0]: seen}
    padding = {key: inputs[key] for key in ("reshaped_input_sizes",) if key in inputs}  # SAM pads, SAM2 does not
    for some in prompts.split(BOXES_PER_BATCH, dim=1):
        logits = model(**embeddings, input_boxes=some, multimask_output=False).pred_masks.float()
        (masks,) = processor.image_processor.post_process_masks(logits, inputs["original_sizes"], **padding)
        yield from masks[:, 0].cpu().numpy()

import json
import pickle

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.ops import box_iou

from data_gen.config import build
from data_gen.sources.base import ImageRef
from data_gen.sources.checkpoint import CheckpointError
from data_gen.sources.coco import readable_name
from data_gen.sources.grounding import GroundingSource, cut, parts_of_text, plain, tokens_of_phrases
from data_gen.sources.panoptic import ADE20K_STUFF, PANOPTIC, PanopticSource, class_names, merged
from data_gen.sources.sam import SamSource, at_level, cleaned, without_small_parts
from llava_som.marks.region import Region
from tests.unit.data_gen.inputs import write_photos
from tests.unit.data_gen.tiny_segmenters import (
    ALL_SEGMENTS,
    COCO_CLASSES,
    EVERYTHING,
    PHRASES,
    bert_tokenizer,
    write_tiny_detector,
    write_tiny_panoptic,
    write_tiny_sam,
)

FAMILIES = {
    "panoptic": ("mask2former", "oneformer", "eomt"),
    "detector": ("GroundingDino", "MMGroundingDino", "Owlv2", "OwlViT"),
    "sam": ("sam", "sam_hq", "sam2", "sam2_video", "sam3"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders by name: the photos, and a checkpoint of every family."""
    folder = tmp_path_factory.mktemp("models")
    writers = {"panoptic": write_tiny_panoptic, "detector": write_tiny_detector, "sam": write_tiny_sam}
    found = {f: writers[kind](folder / f, f) for kind, families in FAMILIES.items() for f in families}
    return {"photos": write_photos(folder / "photos"), **found}


def panoptic(made, family="mask2former", **options):
    return build(PanopticSource, {"images": made["photos"], "checkpoint": str(made[family]), **ALL_SEGMENTS, **options})


def grounding(made, family="GroundingDino", **options):
    loose = {"phrases": list(PHRASES), "threshold": 0.0, "box_nms_iou": 1.0, "segmenter": None, "device": "cpu"}
    return build(GroundingSource, {"images": made["photos"], "checkpoint": str(made[family]), **loose, **options})


def sam(made, family="sam", **options):
    return build(SamSource, {"images": made["photos"], "checkpoint": str(made[family]), **EVERYTHING, **options})


def first_image(source):
    ref = source.refs()[0]
    return ref, source.load(ref)


def facts(regions):
    return [(region.name, region.score, region.bbox_xywh, region.mask.tobytes()) for region in regions]


def box_region(*xyxy, size=(60, 60), **info):
    left, top, right, bottom = xyxy
    return Region.from_box((left, top, right - left, bottom - top), size, **info)


@pytest.mark.parametrize("make", [panoptic, grounding, sam])
def test_a_source_stays_small_and_finds_the_same_after_use_and_pickling(made, make):
    source = make(made)
    found = facts(source.regions(*first_image(source)))
    pickled = pickle.dumps(source)
    again = pickle.loads(pickled)
    assert found and len(pickled) < 1000 and again == source
    assert facts(again.regions(*first_image(again))) == found


@pytest.mark.parametrize("make", [panoptic, grounding, sam])
def test_short_precision_finds_regions_too_and_leaves_the_weights_alone(made, make):
    source = make(made)
    found = facts(source.regions(*first_image(source)))
    short = make(made, dtype="bfloat16")
    assert short.regions(*first_image(short))
    assert facts(source.regions(*first_image(source))) == found


@pytest.mark.parametrize("family", FAMILIES["panoptic"])
def test_panoptic_regions_are_the_models_segments(made, family):
    source = panoptic(made, family, stuff=())
    ref, image = first_image(source)
    model = hf.AutoModelForUniversalSegmentation.from_pretrained(made[family]).eval()
    task = {"task_inputs": ["panoptic"]} if family == "oneformer" else {}
    processor = PANOPTIC.read_processor(model, str(made[family]))
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt", **task))
    options = {key: value for key, value in ALL_SEGMENTS.items() if key != "device"}
    truth = processor.post_process_panoptic_segmentation(outputs, target_sizes=[image.size[::-1]], **options)[0]
    regions = source.regions(ref, image)
    assert len(regions) == len(truth["segments_info"]) > 1
    for region, segment in zip(regions, truth["segments_info"], strict=True):
        assert np.array_equal(region.full_mask(), truth["segmentation"].numpy() == segment["id"])
        assert region.name == readable_name(COCO_CLASSES[segment["label_id"]]) and region.score == segment["score"]
    assert sum(region.full_mask().astype(int) for region in regions).max() == 1
    assert panoptic(made, family, threshold=1.1).regions(ref, image) == []


def test_stuff_becomes_one_region_for_each_class(made):
    apart, known = panoptic(made, "oneformer", stuff=()), panoptic(made, "oneformer")
    ref, image = first_image(apart)
    names = [region.name for region in apart.regions(ref, image)]
    twice = next(name for name in names if names.count(name) > 1)
    one = [region for region in panoptic(made, "oneformer", stuff=[twice]).regions(ref, image) if region.name == twice]
    assert len(one) == 1 and one[0].area == sum(r.area for r in apart.regions(ref, image) if r.name == twice)
    stuff = [region.name for region in known.regions(ref, image) if region.name.startswith("stuff")]
    things = panoptic(made, "oneformer", only_things=True).regions(ref, image)
    assert stuff and len(stuff) == len(set(stuff)) and things
    assert [r.name for r in things] == [r.name for r in known.regions(ref, image) if r.name not in stuff]


def test_merging_keeps_the_order_of_the_first_parts():
    labels = [100, 0, 100, 0, 101]
    segments = [{"id": k, "label_id": label} for k, label in enumerate(labels)]
    assert [[part["id"] for part in group] for group in merged(segments, {100, 101})] == [[0, 2], [1], [3], [4]]
    assert len(ADE20K_STUFF) == 50


def test_classes_are_named_as_people_say_them_and_must_be_known(made, tmp_path):
    config = hf.EomtConfig(id2label=dict(enumerate(["road, route", "window ", "wall-other-merged", "door-stuff"])))
    model = type("Model", (), {"config": config})
    assert list(class_names(model, "x").values()) == ["road", "window", "wall", "door"]
    unnamed = write_tiny_panoptic(tmp_path / "unnamed", "eomt", ["LABEL_0", "LABEL_1"])
    other = write_tiny_panoptic(tmp_path / "other", "eomt", ["sky", "cup"])
    for folder, options, message in (
        (unnamed, {}, "has no class names.*id2label"),
        (other, {"only_things": True}, r"which of the 2 classes of .* stuff=\[sky,grass\]"),
        (other, {"stuff": ["skies"]}, "Unknown class 'skies'. Did you mean 'sky'"),
    ):
        source = build(PanopticSource, {"images": made["photos"], "checkpoint": str(folder), **ALL_SEGMENTS, **options})
        with pytest.raises(CheckpointError, match=message):
            source.regions(*first_image(source))


@pytest.mark.parametrize("family", FAMILIES["detector"])
def test_grounded_boxes_are_the_detectors_and_named_by_the_phrase_given(made, family):
    source = grounding(made, family)
    ref, image = first_image(source)
    model = hf.AutoModelForZeroShotObjectDetection.from_pretrained(made[family]).eval()
    processor = hf.AutoProcessor.from_pretrained(made[family])
    by_token = family.endswith("GroundingDino")
    text = "red cup. a dog. tall green tree." if by_token else [list(PHRASES)]
    with torch.no_grad():
        outputs = model(**processor(images=image, text=text, return_tensors="pt"))
    target = {"target_sizes": [image.size[::-1]], "threshold": 0.0}
    truth = processor.post_process_grounded_object_detection(outputs, **target)[0]
    if by_token:  # a letter is a token: [CLS] redcup . adog . tallgreentree . [SEP]
        tokens = outputs.logits[0].sigmoid()
        scores, best = torch.stack([tokens[:, a:b].amax(1) for a, b in ((1, 7), (8, 12), (13, 26))], 1).max(1)
    else:
        scores, best = truth["scores"], truth["labels"]
    found = {}
    for box, score, label in zip(truth["boxes"].tolist(), scores.tolist(), best.tolist(), strict=True):
        left, top, right, bottom = cut(box, image.size)
        if right - left >= 1 <= bottom - top:
            region = Region.from_box((left, top, right - left, bottom - top), image.size)
            found.setdefault((PHRASES[label], round(score, 5)), []).append(region.bbox_xywh)
    regions = source.regions(ref, image)
    assert len(regions) == sum(map(len, found.values())) and {r.name for r in regions} <= set(PHRASES)
    assert all(region.bbox_xywh in found[region.name, round(region.score, 5)] for region in regions)
    assert [region.score for region in regions] == sorted((region.score for region in regions), reverse=True)
    limit = regions[2].score
    assert len(grounding(made, family, threshold=limit).regions(ref, image)) <= 2
    assert grounding(made, family, threshold=1.1).regions(ref, image) == []


def test_overlapping_boxes_give_one_region(made):
    everything, source = grounding(made, "Owlv2"), grounding(made, "Owlv2", box_nms_iou=0.3)
    ref, image = first_image(source)
    regions = source.regions(ref, image)
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (r.bbox_xywh for r in regions)]).float()
    overlap = box_iou(boxes, boxes).fill_diagonal_(0)
    assert 1 < len(regions) < len(everything.regions(ref, image)) and overlap.max() < 0.35  # in whole pixels


@pytest.mark.parametrize(
    ("family", "name"), zip(FAMILIES["sam"], ("Sam", "SamHQ", "Sam2", "Sam2", "Sam3Tracker"), strict=True)
)
def test_the_segmenter_cuts_out_each_box(made, family, name, monkeypatch):
    monkeypatch.setattr("data_gen.sources.grounding.BOXES_PER_BATCH", 2)
    source = grounding(made, "Owlv2", segmenter=str(made[family]))
    ref, image = first_image(source)
    boxes = [detection.box for detection in source._boxes(image, PHRASES)]
    model = getattr(hf, f"{name}Model").from_pretrained(made[family]).eval()
    images = hf.AutoImageProcessor.from_pretrained(made[family])
    processor = getattr(hf, f"{name}Processor")(images)
    inputs = processor(images=image, input_boxes=[[list(box) for box in boxes]], return_tensors="pt")
    inputs["input_boxes"] = inputs["input_boxes"].float()
    with torch.no_grad():
        sizes = [inputs.pop(key) for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        logits = model(**inputs, multimask_output=False).pred_masks
    (masks,) = images.post_process_masks(logits, *sizes)
    regions = source.regions(ref, image)
    assert len(regions) == len(masks) > 2
    assert np.mean([r.full_mask() == m[0].numpy() for r, m in zip(regions, masks, strict=True)]) > 0.999


def test_more_phrases_than_one_text_holds_are_asked_in_several(made):
    tokenizer = bert_tokenizer()
    parts = parts_of_text(["abcdefgh", "b. C?", "d" * 9, "e"], tokenizer, 2 + 12)
    assert parts == [["abcdefgh", "b. C?"], ["d" * 9, "e"]]
    assert (plain("Mr. T?"), tokens_of_phrases("b c. ddd.", tokenizer)) == ("mr t", [[1, 2], [4, 5, 6]])
    many = [f"{a} thing with {b}" for a in "abc" for b in "xyz"]
    source = grounding(made, phrases=many)
    ref, image = first_image(source)
    asked = parts_of_text(many, tokenizer, 40)
    apart = [fact for part in asked for fact in facts(grounding(made, phrases=part).regions(ref, image))]
    assert len(asked) > 2 and sorted(facts(source.regions(ref, image))) == sorted(apart)


@pytest.mark.parametrize("family", FAMILIES["detector"])
def test_a_phrase_longer_than_the_detector_reads_is_named(made, family):
    source = grounding(made, family, phrases=["a dog", "x" * 50])
    with pytest.raises(ValueError, match=r"the phrase 'xxx.*' has 5\d tokens; this detector reads \d\d\. Shorten it"):
        source.regions(*first_image(source))


def test_phrases_of_each_image(made, tmp_path):
    file = tmp_path / "phrases.json"
    file.write_text(json.dumps({"coffee.jpg": ["a dog", "a dog"], "astronaut.jpg": [], "chelsea.jpg": ["Red Cup"]}))
    source = grounding(made, phrases=[], phrases_file=file)
    assert [ref.id for ref in source.refs()] == ["coffee", "astronaut", "chelsea"]
    found = {ref.id: {region.name for region in source.regions(ref, source.load(ref))} for ref in source.refs()}
    assert found == {"coffee": {"a dog"}, "astronaut": set(), "chelsea": {"Red Cup"}}
    alone = grounding(made, phrases=[], phrases_file=file, images=made["photos"] / "chelsea.jpg")
    assert [(ref.id, ref.annotations) for ref in alone.refs()] == [("chelsea", ("Red Cup",))]
    file.write_text(json.dumps({"coffee.jpg": []}))
    with pytest.raises(ValueError, match=r"has no phrases for chelsea\.jpg"):
        alone.refs()


@pytest.mark.parametrize(
    "content", ['["a dog"]', '{"a.jpg": "a dog"}', '{"a.jpg": [7]}', '{"a.jpg": ["..."]}', '{"": []}']
)
def test_a_file_without_phrases_says_what_to_write(made, tmp_path, content):
    (tmp_path / "phrases.json").write_text(content)
    with pytest.raises(ValueError, match=r"phrases.json: .*[Ww]rite"):
        grounding(made, phrases=[], phrases_file=tmp_path / "phrases.json").refs()


@pytest.mark.parametrize(
    "options", [{"phrases": []}, {"phrases": ["?", "a"]}, {"phrases": ["a"], "phrases_file": "phrases.json"}]
)
def test_phrases_are_asked_for_in_one_way(made, options):
    with pytest.raises(ValueError, match=r"phrases[=:].*(Write words|give one of the two)"):
        grounding(made, **options)


@pytest.mark.parametrize("options", [{"points_per_side": 0}, {"points_per_batch": 0}, {"clean_up_px": -1}])
def test_impossible_numbers_are_refused(made, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* must be at least"):
        sam(made, **options)


def test_every_mask_is_the_pipelines(made):
    source = sam(made, box_nms_iou=1.0)
    ref, image = first_image(source)
    pipeline = hf.pipeline("mask-generation", model=str(made["sam"]), device="cpu")
    options = {"points_per_crop": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crops_nms_thresh": 1.0}
    truth = pipeline(image, **options)
    regions = source.regions(ref, image)
    assert len(regions) == len(truth["masks"]) > 5
    for region, mask, score in zip(regions, truth["masks"], truth["scores"], strict=True):
        assert np.array_equal(region.full_mask(), np.asarray(mask)) and region.score == float(score)


@pytest.mark.parametrize("family", ["sam", "sam2_video"])
def test_levels_go_from_coarse_to_fine(made, family):
    source = sam(made, family, box_nms_iou=1.0)
    everything = facts(source.regions(*first_image(source)))
    levels = [sam(made, family, box_nms_iou=1.0, level=level) for level in range(1, 7)]
    found = [level.regions(*first_image(level)) for level in levels]
    assert all(regions and set(facts(regions)) < set(everything) for regions in found)
    assert np.mean([region.area for region in found[0]]) > np.mean([region.area for region in found[5]])


def test_two_levels_each_for_whole_part_and_subpart():
    corners = [(0, 0, 40, 40), (0, 0, 36, 36), (0, 0, 33, 33), (50, 50, 60, 60)]
    whole, part, subpart, alone = (box_region(*box) for box in corners)
    regions = [part, alone, whole, subpart]
    assert [at_level(regions, level) for level in (1, 2)] == [[alone, whole]] * 2
    assert [at_level(regions, level) for level in (3, 4)] == [[part, alone]] * 2
    assert [at_level(regions, level) for level in (5, 6)] == [[alone, subpart]] * 2
    assert at_level([], 3) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 29)] * 2, *[st.integers(1, 30)] * 2), min_size=1, max_size=8), st.integers(1, 6)
)
def test_a_level_covers_what_it_leaves_out_and_hardly_overlaps(boxes, level):
    regions = [box_region(x, y, x + w, y + h) for x, y, w, h in boxes]
    kept = at_level(regions, level)
    covered = np.any([region.full_mask() for region in kept], axis=0)
    for region in regions:
        assert region in kept or covered[region.window][region.mask].mean() > 0.5
    assert 2 * covered.sum() >= sum(region.area for region in kept)
    largest, smallest = max(regions, key=lambda region: region.area), min(regions, key=lambda region: region.area)
    assert (level != 1 or largest.area in {r.area for r in kept}) and (
        level != 6 or smallest.area in {r.area for r in kept}
    )


def test_small_holes_are_filled_and_small_islands_dropped():
    mask = np.zeros((40, 50), bool)
    mask[0:20, 0:20] = True
    mask[5:7, 5:7] = mask[10:15, 10:15] = False  # holes of 4 and 25 pixels
    mask[0:2, 4:6] = False  # open to the border of the image: no hole
    mask[30:32, 30:33] = mask[30:36, 40:46] = True  # islands of 6 and 36
    region = Region.from_mask(mask, name="x")
    expected = mask.copy()
    expected[5:7, 5:7], expected[30:32, 30:33] = True, False
    clean = without_small_parts(region, 10)
    assert np.array_equal(clean.full_mask(), expected) and clean.name == "x"
    assert without_small_parts(clean, 10) is clean and without_small_parts(region, 1) is region
    largest = expected.copy()
    largest[10:15, 10:15], largest[30:36, 40:46] = True, False
    assert np.array_equal(without_small_parts(region, 10_000).full_mask(), largest)


def test_of_two_that_cleaning_makes_alike_the_untouched_one_stays():
    frayed = np.zeros((60, 60), bool)
    frayed[10:30, 10:30] = frayed[50, 50] = True
    whole = box_region(10, 10, 30, 30)
    other = box_region(40, 0, 60, 20)
    assert cleaned([Region.from_mask(frayed), other, whole], 5, 0.7) == [other, whole]
    assert cleaned([], 5, 0.7) == []


@pytest.mark.parametrize(
    ("make", "other", "message"),
    [
        (panoptic, "Owlv2", "panoptic segmentation.*Mask2Former, OneFormer or EoMT checkpoint"),
        (grounding, "eomt", "finding phrases.*Grounding DINO, MM Grounding DINO, OWLv2 or OWL-ViT checkpoint"),
        (sam, "mask2former", "mask generation.*SAM, SAM-HQ, SAM2 or SAM3 checkpoint"),
    ],
)
def test_a_checkpoint_of_another_kind_stops_the_run(made, make, other, message):
    source = make(made, checkpoint=str(made[other]))
    with pytest.raises(CheckpointError, match=f"checkpoint=.*{other} cannot be loaded for {message}"):
        source.regions(*first_image(source))
    source = grounding(made, segmenter=str(made[other]))
    with pytest.raises(CheckpointError, match=f"segmenter=.*{other} cannot be loaded for mask generation"):
        source.regions(*first_image(source))


def test_missing_weights_and_devices_stop_the_run(made, tmp_path):
    folder = write_tiny_sam(tmp_path / "sam", "sam")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "iou_prediction_head" in name)
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    image = Image.new("RGB", (30, 30))
    with pytest.raises(CheckpointError, match=f"lacks 1 of the weights for mask generation .*{lost}"):
        sam(made, checkpoint=str(folder)).regions(ImageRef("x"), image)
    with pytest.raises(CheckpointError, match=r"device=nowhere cannot be used\. Give device=auto"):
        sam(made, device="nowhere").regions(ImageRef("x"), image)

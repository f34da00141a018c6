import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_gen.config import build
from data_gen.sources.base import ImageRef, refs_of
from data_gen.sources.classical import ClassicalSource, merge_similar, overlaps
from data_gen.sources.sam import SamSource
from data_gen.sources.scenes import COLOURS, OUTLINES, SceneSource
from tests.unit.data_gen.inputs import write_photos
from tests.unit.data_gen.tiny_segmenters import EVERYTHING, write_tiny_sam


def test_ids_are_unique_and_keep_dots_and_folders():
    paths = [Path(name) for name in ("a/x.jpg", "b/x.jpg", "v1.2.png", "same.jpg", "same.png")]
    assert [ref.id for ref in refs_of(paths)] == ["a/x", "b/x", "v1.2", "same.jpg", "same.png"]
    nasty = [Path(name) for name in ("x.jpg", "x.png", "x.jpg.jpg", "bare")]
    assert [ref.id for ref in refs_of(nasty)] == ["x.jpg", "x.png", "x.jpg.jpg", "bare"]


def test_overlaps_are_areas_and_iou():
    coarse, fine = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])
    area, iou = overlaps([coarse, fine])
    assert area.tolist() == [2, 2, 1, 3]
    assert np.allclose(iou, [[1, 0, 1 / 2, 1 / 4], [0, 1, 0, 2 / 3], [1 / 2, 0, 1, 0], [1 / 4, 2 / 3, 0, 1]])


def test_chains_of_similar_neighbours_merge():
    labels = np.array([[0, 1, 2, 3]])
    merged = merge_similar(labels, np.array([[[0.0], [4.0], [8.0], [50.0]]]), threshold=5)
    assert merged.tolist() == [[0, 0, 0, 1]]
    assert merge_similar(labels, np.array([[[0.0], [9.0], [0.0], [9.0]]]), threshold=5).tolist() == labels.tolist()


def test_classical_finds_what_stands_out_once(tmp_path):
    canvas = np.full((200, 300, 3), 40, np.uint8)
    boxes = {(30, 20, 60, 50): (220, 60, 40), (150, 90, 100, 80): (60, 90, 220), (220, 10, 40, 40): (240, 220, 60)}
    for (x, y, w, h), colour in boxes.items():
        canvas[y : y + h, x : x + w] = colour
    source = build(ClassicalSource, {"images": tmp_path})
    regions = source.regions(ImageRef("x"), Image.fromarray(canvas))
    for x, y, w, h in boxes:
        truth = np.zeros((200, 300), bool)
        truth[y : y + h, x : x + w] = True
        matches = [(truth & r.full_mask()).sum() / (truth | r.full_mask()).sum() > 0.8 for r in regions]
        assert sum(matches) == 1
    assert all(0 < region.score <= 1 for region in regions)
    few = build(ClassicalSource, {"images": tmp_path, "max_regions": 2})
    assert len(few.regions(ImageRef("x"), Image.fromarray(canvas))) == 2


@pytest.mark.parametrize("size", [(1, 1), (3, 400)])
def test_classical_takes_an_image_of_any_size(tmp_path, size):
    assert build(ClassicalSource, {"images": tmp_path}).regions(ImageRef("x"), Image.new("RGB", size)) == []


def test_classical_without_scikit_image_names_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"pip install 'llava_som\[gen\]'"):
        build(ClassicalSource, {"images": tmp_path}).regions(ImageRef("x"), Image.new("RGB", (30, 30)))


@pytest.mark.parametrize(
    ("family", "model"), [("sam", "SamModel"), ("sam2", "Sam2Model"), ("sam3", "Sam3TrackerModel")]
)
def test_any_segment_anything_checkpoint(tmp_path, family, model):
    checkpoint = write_tiny_sam(tmp_path / family, family)
    options = {"images": write_photos(tmp_path / "photos"), "checkpoint": str(checkpoint), **EVERYTHING}
    source = build(SamSource, options)
    ref = source.refs()[0]
    regions = source.regions(ref, source.load(ref))
    assert type(source._pipeline.model).__name__ == model
    assert regions and all(region.image_size == (160, 120) and region.score is not None for region in regions)
    strict = build(SamSource, {**options, "min_predicted_iou": 50.0})
    assert strict.regions(ref, strict.load(ref)) == []


def test_a_checkpoint_that_is_none_stops_the_run(tmp_path):
    source = build(SamSource, {"images": tmp_path, "checkpoint": str(tmp_path / "nothing"), "device": "cpu"})
    with pytest.raises(OSError, match=r"checkpoint=.*nothing cannot be loaded for mask generation"):
        source.regions(ImageRef("x"), Image.new("RGB", (30, 30)))


@pytest.mark.parametrize("options", [{}, {"layout": "free", "objects": (6, 6), "area": (0.05, 0.1)}])
def test_masks_of_a_scene_are_disjoint_and_show_their_colour(options):
    source = SceneSource(count=12, size=120, **options)
    for ref in source.refs():
        pixels = np.asarray(source.load(ref)).astype(int)
        regions = source.regions(ref, source.load(ref))
        assert sum(region.full_mask().astype(int) for region in regions).max() == 1
        for region in regions:
            seen = pixels[region.full_mask()].mean(axis=0)
            nearest = min(COLOURS, key=lambda colour: np.abs(seen - COLOURS[colour]).sum())
            assert region.name.split()[0] == nearest and region.name.split()[1] in OUTLINES


def test_scenes_depend_on_seed_and_number_only():
    few, many = SceneSource(count=2), SceneSource(count=50)
    ref = many.refs()[1]
    assert np.array_equal(np.asarray(few.load(ref)), np.asarray(many.load(ref)))
    assert not np.array_equal(np.asarray(many.load(ref)), np.asarray(SceneSource(count=50, seed=1).load(ref)))


def test_counts_areas_and_textures_follow_the_options():
    source = SceneSource(count=30, size=200, objects=(1, 3), area=(0.03, 0.04), jitter=0.0, textures=("striped",))
    regions = [source.regions(ref, source.load(ref)) for ref in source.refs()]
    assert {len(found) for found in regions} == {1, 2, 3}
    assert all(0.028 < region.area / 200**2 < 0.042 for found in regions for region in found)
    assert all(region.name.startswith("striped ") for found in regions for region in found)
    assert all(region.attributes == tuple(region.name.split()[:-1]) for found in regions for region in found)
    dark_and_light = np.asarray(source.load(source.refs()[0]))[regions[0][0].full_mask()]
    assert len(np.unique(dark_and_light, axis=0)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": ("redd",)}, "Unknown colour 'redd'. Did you mean 'red'"),
        ({"objects": (0, 3)}, "at least 1"),
        ({"objects": (3, 2)}, "fewest and the most"),
        ({"objects": (2, 10)}, "a grid of 3x3 holds 9"),
    ],
)
def test_impossible_scenes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SceneSource(**options)

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from data_gen.config import build
from data_gen.sources.coco import CocoSource, readable_name, segmentation_mask
from data_gen.sources.polygons import polygon_mask
from llava_som.marks import mark_image
from llava_som.marks.rle import encode_rle
from tests.unit.data_gen.inputs import voc, write_coco, write_voc

L_SHAPE = [10, 10, 60, 10, 60, 30, 30, 30, 30, 70, 10, 70]


def regions_of(source):
    (ref,) = source.refs()
    return source.regions(ref, source.load(ref))


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_polygons_agree_with_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(60):
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 40)))
        radius = rng.uniform(12, 60) * rng.uniform(0.6, 1.0, angle.size)
        centre = rng.uniform(0, 120, 2)
        vertices = centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        theirs = pycoco.decode(pycoco.frPyObjects([vertices.ravel().tolist()], 100, 120))[..., 0].astype(bool)
        ours = polygon_mask(vertices, (120, 100))
        boundary = np.hypot(*np.diff(np.vstack([vertices, vertices[:1]]), axis=0).T).sum()
        assert (ours ^ theirs).sum() <= 0.3 * boundary + 2
        if theirs.sum() > 400:
            assert iou(ours, theirs) > 0.95


def test_a_polygon_covers_exactly_the_pixels_whose_centre_is_inside():
    expected = np.zeros((80, 70), bool)
    expected[10:30, 10:60] = expected[30:70, 10:30] = True
    assert np.array_equal(polygon_mask(np.reshape(L_SHAPE, (-1, 2)), (70, 80)), expected)
    assert polygon_mask(np.array([[-50, -50], [200, -50], [200, 200], [-50, 200]]), (70, 80)).all()


def test_instances_keep_masks_names_and_ids(tmp_path):
    _, masks, names = voc()
    regions = regions_of(build(CocoSource, write_voc(tmp_path)))
    assert [region.name for region in regions] == names
    assert [region.id for region in regions] == [str(k) for k in range(len(names))]
    assert all(np.array_equal(region.full_mask(), mask) for region, mask in zip(regions, masks, strict=True))


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("polygons", [L_SHAPE, [100, 100, 120, 100, 120, 120]]),
        ("list of runs", {"size": [375, 500], "counts": [375 * 10 + 5, 20, 375 * 490 - 25]}),
        ("string", None),
    ],
)
def test_every_form_of_segmentation_equals_pycocotools(form, value):
    value = value or encode_rle(voc()[1][3])
    rle = pycoco.frPyObjects(value, 375, 500) if form != "string" else value
    theirs = pycoco.decode(pycoco.merge(rle) if isinstance(rle, list) else rle).astype(bool)
    assert iou(segmentation_mask(value, (500, 375)), theirs) > 0.95


def test_crowds_are_known_but_unfit_and_a_box_stands_in_for_a_missing_mask(tmp_path):
    crowded = regions_of(build(CocoSource, write_voc(tmp_path, iscrowd=1)))
    assert [bool(region.unfit) for region in crowded] == [True] + 18 * [False]
    record = mark_image(Image.fromarray(voc()[0]), crowded, "paper").record
    assert len(record.marks) == 18 and [skipped.reason for skipped in record.skipped] == ["a crowd, no single object"]
    boxed = regions_of(build(CocoSource, write_voc(tmp_path, segmentation=[], bbox=[10, 20, 30, 40])))
    assert boxed[0].bbox_xywh == (10, 20, 30, 40) and boxed[0].mask.all()


def test_panoptic_reads_the_png_beside_the_json(tmp_path):
    ids = np.zeros((40, 60), np.int64)
    ids[:, :30], ids[10:20, 35:50] = 300, 70_000
    ids[30:35, 50:55] = 8  # of a crowd
    png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    segments = [
        {"id": 70_000, "category_id": 0},
        {"id": 300, "category_id": 1},
        {"id": 8, "category_id": 0, "iscrowd": 1},
        {"id": 9, "category_id": 0, "iscrowd": 1},
    ]
    annotation = {"image_id": 1, "file_name": "x.png", "segments_info": segments}
    paths = write_coco(tmp_path, [annotation], [{"id": 1, "file_name": "x.jpg"}], ["cat", "wall-other-merged"])
    paths["images"].mkdir()
    Image.new("RGB", (60, 40)).save(paths["images"] / "x.jpg")
    (tmp_path / "coco").mkdir()
    Image.fromarray(png).save(tmp_path / "coco" / "x.png")
    regions = regions_of(build(CocoSource, paths))
    assert [(r.name, r.area, r.id) for r in regions if not r.unfit] == [("cat", 150, "70000"), ("wall", 1200, "300")]
    assert [(r.name, r.area, r.id) for r in regions if r.unfit] == [("cat", 25, "8")]

    Image.fromarray(png[:20]).save(tmp_path / "other.png")
    other = json.loads(paths["annotations"].read_text())
    other["annotations"][0]["file_name"] = "other.png"
    paths["annotations"].write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"other.png: is 60x20, its image is 60x40"):
        regions_of(build(CocoSource, {**paths, "panoptic_images": tmp_path}))
    with pytest.raises(ValueError, match=r"other.png: no such file.*panoptic_images=FOLDER"):
        regions_of(build(CocoSource, paths))
    other["annotations"][0]["file_name"] = "../other.png"
    paths["annotations"].write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"../other.png: lies outside"):
        regions_of(build(CocoSource, paths))


def test_names_lose_their_bookkeeping():
    assert [readable_name(n) for n in ("floor-wood", "tree-merged", "hot dog")] == ["wooden floor", "tree", "hot dog"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"segmentation": encode_rle(np.ones((20, 30), bool))},
            r"mask has size \[20, 30\], its image \[375, 500\]",
        ),
        ({"segmentation": [[600, 600, 650, 600, 650, 650]]}, "annotation 0.*empty mask"),
        ({"segmentation": [[1, 2, 3, 4]]}, "at least 3 points"),
        ({"segmentation": {"counts": "abc"}}, "annotation 0"),
        ({"segmentation": None, "bbox": [900, 10, 5, 5]}, "outside its image"),
        ({"segmentation": None}, "annotation 0.*neither a segmentation nor a bbox"),
        ({"segmentation": None, "bbox": [1, 2, 3]}, r"annotation 0.*\[x, y, width, height\]"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "annotation 0.*a list of polygons"),
        ({"segmentation": [[1, 2, float("inf"), 4, 50, 60]]}, "a coordinate that is no pixel"),
        ({"segmentation": {"size": [60000, 80000], "counts": [4_800_000_000]}}, r"size \[60000, 80000\]"),
    ],
)
def test_an_annotation_that_does_not_fit_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        regions_of(build(CocoSource, write_voc(tmp_path, **changes)))


def test_another_file_than_the_annotated_one_is_noticed(tmp_path):
    paths = write_voc(tmp_path)
    Image.new("RGB", (375, 500)).save(paths["images"] / "voc.jpg")
    with pytest.raises(ValueError, match="annotated at 500x375, but the image is 375x500"):
        regions_of(build(CocoSource, paths))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "coco.json: is not valid JSON.*line 1"),
        ("[]", "is not a COCO file"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "every image needs id and file_name"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "category_id": 9}],'
            '"categories": []}',
            r"annotation number 0 .*image or category that the file does not have \(KeyError\(9\)",
        ),
        ('{"images": [{"id": 1, "file_name": ""}], "annotations": [], "categories": []}', "'' is not the name"),
    ],
)
def test_a_broken_annotation_file_is_named(tmp_path, content, message):
    (tmp_path / "coco.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        build(CocoSource, {"images": tmp_path, "annotations": tmp_path / "coco.json"}).refs()


def test_one_image_of_the_file_can_be_chosen(tmp_path):
    paths = write_voc(tmp_path)
    (ref,) = build(CocoSource, {**paths, "images": paths["images"] / "voc.jpg"}).refs()
    assert ref.id == "voc" and len(ref.annotations) == 19
    Image.new("RGB", (9, 9)).save(paths["images"] / "b.jpg")
    with pytest.raises(ValueError, match=r"has no entry for b.jpg"):
        build(CocoSource, {**paths, "images": paths["images"] / "b.jpg"}).refs()
    twice = [{"id": k, "file_name": f"{k}/b.jpg"} for k in (1, 2)]
    write_coco(tmp_path, [], twice, [])
    with pytest.raises(ValueError, match=r"several entries for b.jpg: 1/b.jpg, 2/b.jpg"):
        build(CocoSource, {**paths, "images": paths["images"] / "b.jpg"}).refs()

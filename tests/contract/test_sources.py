"""Every registered source: regions inside the image, deterministic, an image without regions allowed, picklable."""

import json
import pickle

import numpy as np
import pytest

from data_gen.config import build, field_names
from data_gen.sources import SOURCES
from data_gen.sources.base import AnnotatedSource, FileSource
from tests.unit.data_gen.clips import blank_clip
from tests.unit.data_gen.inputs import blank_photo, source_options


@pytest.fixture(params=SOURCES.names())
def name(request):
    return request.param


@pytest.fixture
def source(name, tmp_path):
    return build(SOURCES.get(name), source_options(name, tmp_path))


def regions_of(source, ref):
    return source.regions(ref, source.load(ref))


def test_regions_lie_in_the_image_and_are_named_by_their_source(name, source):
    refs = source.refs()
    assert refs and len({ref.id for ref in refs}) == len(refs)
    found = [(source.load(ref), regions_of(source, ref)) for ref in refs]
    assert any(regions for _, regions in found)
    for image, regions in found:
        assert image.mode == "RGB"
        for region in regions:
            assert region.full_mask().shape == image.size[::-1] and region.area > 0 and region.source == name


def test_a_second_source_finds_the_same_also_after_pickling(name, source):
    ref = source.refs()[0]
    again = pickle.loads(pickle.dumps(build(type(source), {f: getattr(source, f) for f in field_names(type(source))})))
    assert np.array_equal(np.asarray(source.load(ref)), np.asarray(again.load(again.refs()[0])))
    first, second = regions_of(source, ref), regions_of(again, again.refs()[0])
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.bbox_xywh, one.name, one.score, one.id) == (other.bbox_xywh, other.name, other.score, other.id)
        assert np.array_equal(one.mask, other.mask)


def test_an_image_without_regions_is_allowed(name, source, tmp_path):
    if not issubclass(SOURCES.get(name), FileSource):
        pytest.skip("draws its own images, each with objects")
    options = {field: getattr(source, field) for field in field_names(type(source))}
    options["images"] = (blank_clip if name == "video" else blank_photo)(tmp_path / "blank")
    if issubclass(type(source), AnnotatedSource):
        options["annotations"] = tmp_path / "none.json"
        nothing = {"coco": {"images": [{"id": 1, "file_name": "blank.png"}], "annotations": [], "categories": []}}
        options["annotations"].write_text(json.dumps(nothing.get(name, {"blank.png": []})))
    empty = build(type(source), options)
    assert isinstance(regions_of(empty, empty.refs()[0]), list)


def test_a_missing_folder_is_named(name, source):
    options = {field: getattr(source, field) for field in field_names(type(source))}
    if "images" not in options:
        pytest.skip("draws its own images")
    with pytest.raises(ValueError, match="images=/nowhere"):
        build(type(source), {**options, "images": "/nowhere"})

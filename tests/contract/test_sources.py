"""Every registered source: what it gives lies in the image, deterministic, faults allowed and told, picklable."""

import json
import pickle

import numpy as np
import pytest

from data_gen.config import build, field_names
from data_gen.sources import SOURCES
from data_gen.sources.base import AnnotatedSource, FileBacked, FileSource, PageSource, RegionSource
from llava_som.data.page_record import PageRecord
from tests.unit.data_gen.clips import blank_clip
from tests.unit.data_gen.inputs import blank_photo, source_options
from tests.unit.data_gen.pdf_files import PdfPage, write_pdf

OF_REGIONS = [name for name in SOURCES.names() if issubclass(SOURCES.get(name), RegionSource)]
OF_PAGES = [name for name in SOURCES.names() if issubclass(SOURCES.get(name), PageSource)]


def made(name, folder):
    return build(SOURCES.get(name), source_options(name, folder))


@pytest.fixture(params=OF_REGIONS)
def name(request):
    return request.param


@pytest.fixture
def source(name, tmp_path):
    return made(name, tmp_path)


def regions_of(source, ref):
    return source.regions(ref, source.load(ref))


def options_of(source):
    return {field: getattr(source, field) for field in field_names(type(source))}


def test_a_source_gives_regions_or_pages():
    assert sorted(OF_REGIONS + OF_PAGES) == SOURCES.names() and OF_PAGES


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
    again = pickle.loads(pickle.dumps(build(type(source), options_of(source))))
    assert np.array_equal(np.asarray(source.load(ref)), np.asarray(again.load(again.refs()[0])))
    first, second = regions_of(source, ref), regions_of(again, again.refs()[0])
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.bbox_xywh, one.name, one.score, one.id) == (other.bbox_xywh, other.name, other.score, other.id)
        assert np.array_equal(one.mask, other.mask)


def test_an_image_without_regions_is_allowed(name, source, tmp_path):
    if not issubclass(SOURCES.get(name), FileSource):
        pytest.skip("draws its own images, each with objects")
    options = options_of(source)
    options["images"] = (blank_clip if name == "video" else blank_photo)(tmp_path / "blank")
    if issubclass(type(source), AnnotatedSource):
        options["annotations"] = tmp_path / "none.json"
        nothing = {"coco": {"images": [{"id": 1, "file_name": "blank.png"}], "annotations": [], "categories": []}}
        options["annotations"].write_text(json.dumps(nothing.get(name, {"blank.png": []})))
    empty = build(type(source), options)
    assert isinstance(regions_of(empty, empty.refs()[0]), list)


@pytest.mark.parametrize("name", SOURCES.names())
def test_a_missing_folder_is_named(name, tmp_path):
    options = options_of(made(name, tmp_path))
    if "images" not in options:
        pytest.skip("draws its own images")
    with pytest.raises(ValueError, match="images=/nowhere"):
        build(SOURCES.get(name), {**options, "images": "/nowhere"})


def pages_of(source):
    return {
        page_id: source.page(ref, index) for ref in source.refs() for index, page_id in enumerate(source.page_ids(ref))
    }


@pytest.mark.parametrize("name", OF_PAGES)
def test_words_of_pages_lie_in_the_picture_and_have_no_blanks(name, tmp_path):
    source = made(name, tmp_path)
    ids = [page_id for ref in source.refs() for page_id in source.page_ids(ref)]
    assert len(ids) == len(set(ids)) == len(pages_of(source)) and len({ref.id for ref in source.refs()}) <= len(ids)
    for page in pages_of(source).values():
        assert page.image.mode == "RGB" and (page.markdown is not None) == (page.kind in ("table", "chart"))
        record = PageRecord(size=page.image.size, kind=page.kind, blocks=page.blocks, markdown=page.markdown)
        assert list(record.words)
        for word in record.words:
            left, top, right, bottom = word.box
            assert 0 <= left < right <= page.image.width and 0 <= top < bottom <= page.image.height
            assert word.text and not any(map(str.isspace, word.text))


@pytest.mark.parametrize("name", OF_PAGES)
def test_a_second_source_gives_the_same_pages_also_after_pickling(name, tmp_path):
    source = made(name, tmp_path)
    again = pickle.loads(pickle.dumps(build(type(source), options_of(source))))
    assert pages_of(again) == pages_of(source)


@pytest.mark.parametrize("name", OF_PAGES)
def test_a_page_without_text_is_refused_with_the_reason(name, tmp_path):
    if not issubclass(SOURCES.get(name), FileBacked):
        pytest.skip("draws its own pages, each with text")
    write_pdf(tmp_path / "blank" / "blank.pdf", [PdfPage(size=(160, 160))])
    blank = build(SOURCES.get(name), {"images": tmp_path / "blank"})
    with pytest.raises(ValueError, match="no text"):
        blank.page(blank.refs()[0], 0)

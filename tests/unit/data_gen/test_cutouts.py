import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data_gen.pipeline import generate
from data_gen.sources.base import ImageRef
from data_gen.sources.cutouts import CutoutSource, caption_beside, name_from, read_cutout
from llava_som.images import ImageError
from tests.unit.data_gen.inputs import source_options


@pytest.fixture
def source_of(tmp_path):
    options = source_options("cutouts", tmp_path)
    return lambda **changes: CutoutSource(**{**options, **changes})


def pictures(source):
    return [(np.asarray(source.load(ref)), source.regions(ref, source.load(ref))) for ref in source.refs()]


def test_masks_are_what_was_pasted_and_the_rest_is_the_photo(source_of):
    source = source_of(count=6, feather=0.0, objects=(2, 3), rotate=(0, 0), flip=False, scale=(0.3, 0.6))
    for ref in source.refs():
        picture, photo = np.asarray(source.load(ref)), np.asarray(Image.open(source.images / ref.path))
        regions = source.regions(ref, source.load(ref))
        shown = sum(region.full_mask().astype(np.uint8) for region in regions)
        assert shown.max() == 1 and len(regions) >= 2
        near = np.asarray(Image.fromarray(shown).filter(ImageFilter.MaxFilter(9))) > 0  # edges are partly transparent
        assert (picture != photo).any(axis=2)[~near].mean() < 0.005  # and thin parts vanish when shrunk
        assert (picture != photo).any(axis=2)[shown == 1].mean() > 0.95
        for region in regions:
            cutout = np.asarray(read_cutout(source.cutouts / region.id))
            own = cutout[cutout[..., 3] >= 128][:, :3].mean(axis=0)
            assert np.abs(picture[region.full_mask()].mean(axis=0) - own).max() < 40


def test_names_ids_and_counts(source_of):
    (source_of().cutouts / "thing_16.txt").unlink()
    source = source_of(count=12, objects=(1, 3), scale=(0.2, 0.3))
    found = [regions for _, regions in pictures(source)]
    assert {len(regions) for regions in found} == {1, 2, 3}
    names = {region.id: region.name for regions in found for region in regions}
    assert names == {"thing_0.png": "wine bottle", "thing_15.png": "old friend", "thing_16.png": "thing"}
    assert [ref.path.name for ref in source.refs()[:4]] == [
        "astronaut.jpg",
        "chelsea.jpg",
        "coffee.jpg",
        "astronaut.jpg",
    ]


def test_every_cutout_stays_visible_enough(source_of):
    crowded = {"count": 10, "objects": (8, 8), "scale": (0.6, 0.6), "rotate": (0.0, 0.0), "feather": 0.0}
    whole = {path: (np.asarray(read_cutout(path))[..., 3] >= 128).sum() for path in source_of().files}
    covered = 0
    for _, regions in pictures(source_of(**crowded, min_visible=0.5)):
        assert 1 <= len(regions) <= 8
        for region in regions:
            path = source_of().cutouts / region.id
            full = whole[path] * (0.6 * 120 / max(read_cutout(path).size)) ** 2
            covered += region.area < 0.9 * full
            assert region.area > 0.45 * full  # resizing changes an area by some percent
    assert covered
    assert all(len(regions) < 8 for _, regions in pictures(source_of(**crowded, min_visible=1.0)))


def test_a_picture_depends_on_seed_and_number_only(source_of):
    few, many = source_of(), pickle.loads(pickle.dumps(source_of(count=40)))
    ref = many.refs()[2]
    assert ref == few.refs()[2]
    assert np.array_equal(np.asarray(few.load(ref)), np.asarray(many.load(ref)))
    assert not np.array_equal(np.asarray(few.load(ref)), np.asarray(source_of(seed=1).load(ref)))


def test_variations_change_what_they_say(source_of):
    plain = {"count": 3, "objects": (1, 1), "rotate": (0.0, 0.0), "flip": False, "scale": (0.5, 0.5), "feather": 0.0}
    first, turned = pictures(source_of(**plain)), pictures(source_of(**{**plain, "rotate": (90.0, 90.0)}))
    for change in ({"rotate": (90.0, 90.0)}, {"flip": True}, {"feather": 3.0}, {"jitter": 0.5}, {"scale": (0.2, 0.2)}):
        other = pictures(source_of(**{**plain, **change}))
        assert any(not np.array_equal(one[0], two[0]) for one, two in zip(first, other, strict=True)), change
    for (_, (flat,)), (_, (upright,)) in zip(first, turned, strict=True):
        assert np.allclose(flat.bbox_xywh[2:], upright.bbox_xywh[:1:-1], atol=2)


def test_large_photos_and_cutouts_are_shrunk(source_of, tmp_path):
    Image.open(tmp_path / "cutouts" / "thing_0.png").resize((1500, 1200)).save(tmp_path / "cutouts" / "thing_0.png")
    assert max(read_cutout.__wrapped__(tmp_path / "cutouts" / "thing_0.png").size) == 1024
    source = source_of(long_side=80)
    assert source.load(source.refs()[0]).size == (80, 60)


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A red apple.", "red apple"),
        ("An F-22 Raptor.", "F-22 Raptor"),
        ("  The   letter g.\n", "letter g"),
        ("A wheelie bin! Give me your trash!", "wheelie bin"),
        ("Saturn—the second largest planet in our solar system.", "Saturn"),
        ("A European coin of 5 cents (0.05 €).", "European coin of 5 cents"),
        ("“Toilets”.", "Toilets"),
        ("Remember to flush the toilet and wash your hands with soap!", ""),
        ("...", "town toilet"),
        (None, "town toilet"),
    ],
)
def test_a_caption_becomes_a_name(caption, name):
    assert name_from(caption, Path("a/town_toilet-2.png"), 6) == name


def test_what_cannot_be_used_is_left_out_said_once_and_costs_no_picture(source_of, tmp_path, caplog):
    folder = source_of().cutouts
    Image.new("RGBA", (40, 30), (9, 9, 9, 255)).save(folder / "opaque.png")
    (folder / "cut_short.png").write_bytes((folder / "thing_0.png").read_bytes()[:200])
    (folder / "thing_0_mirror.png").write_bytes((folder / "thing_0.png").read_bytes())
    source = source_of(objects=(3, 3), count=6)
    refs = source.refs()
    worker = pickle.loads(pickle.dumps(source))
    found = [[region.name for region in worker.regions(ref, worker.load(ref))] for ref in refs]
    assert {name for names in found for name in names} == {"wine bottle", "old friend"} and all(found)
    (said,) = caplog.messages
    assert said.startswith("3 of 6 cut-outs are left out; no name of at most 6 words for 1 (thing_16.png); of no use: ")
    assert "2 (cut_short.png, opaque.png), the first because" in said
    assert "pass me the salt" in " ".join(source_of(max_name_words=9).names.values())
    with pytest.raises(ValueError, match="transparency and a short name"):
        source_of(max_name_words=1).refs()
    given = {"cutouts": str(folder), "images": str(source.images), "count": 6, "marks": {"min_area": 1}}
    made = generate({"source": "cutouts", **given, "out": str(tmp_path / "out")})
    assert (made["images"], made["records"], made["rejected"]) == (6, 6, 0)


def test_captions_in_one_file(source_of):
    source = source_of()
    file = source.cutouts / "captions.json"
    file.write_text(json.dumps({"thing_0.png": "A throne."}))
    assert [*source_of().names.values()] == ["throne", "old friend"]
    file.write_text('{"thing_4.png": "A throne."}')
    with pytest.raises(ValueError, match=r"captions.json: 'thing_4.png' is no file in"):
        source_of().refs()
    file.write_text('["A throne."]')
    with pytest.raises(ValueError, match="is not a list of captions"):
        source_of().refs()
    (source.cutouts / "thing_0.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ImageError, match=r"thing_0.txt: the caption of thing_0.png cannot be read"):
        caption_beside(source.cutouts / "thing_0.png")


def test_a_file_name_that_is_no_text_is_refused(source_of):
    source = source_of()
    strange = source.files[0].rename(source.cutouts / os.fsdecode(b"\xff.png"))
    with pytest.raises(ImageError, match="not valid UTF-8"):
        read_cutout(strange)


@pytest.mark.parametrize("alpha", [255, 0])
def test_a_picture_without_transparency_is_no_cutout(source_of, tmp_path, alpha):
    Image.new("RGBA", (40, 30), (9, 9, 9, alpha)).save(tmp_path / "cutouts" / "box.png")
    with pytest.raises(ImageError, match=r"box.png: is no cut-out"):
        read_cutout(tmp_path / "cutouts" / "box.png")


def test_a_photo_too_small_for_a_cutout_gets_none(source_of, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "photos" / "dot.png")
    ref = ImageRef("cutouts-000007", Path("dot.png"))
    assert all(region.area == 1 for region in source_of().regions(ref, source_of().load(ref)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutouts": Path("/nowhere")}, "cutouts=/nowhere: no such folder"),
        ({"count": 0}, "count=0"),
        ({"objects": (3, 2)}, "fewest and the most"),
        ({"scale": (0.0, 0.5)}, "between 0 and 1"),
        ({"rotate": (5.0, -5.0)}, "smallest angle"),
        ({"min_visible": 0.0}, "shares, between 0 and 1"),
        ({"feather": -1.0}, "cannot be less than 0"),
    ],
)
def test_impossible_pictures_are_refused(source_of, options, message):
    with pytest.raises(ValueError, match=message):
        source_of(**options)


def test_empty_folders_and_an_output_among_the_input_are_refused(source_of, tmp_path):
    (tmp_path / "empty").mkdir()
    for key in ("cutouts", "images"):
        with pytest.raises(ValueError, match=f"{key}=.*holds no image file"):
            source_of(**{key: tmp_path / "empty"}).refs()
        with pytest.raises(ValueError, match="which is input"):
            source_of().refuse_output(getattr(source_of(), key) / "out")

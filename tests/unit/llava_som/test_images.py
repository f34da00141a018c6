import numpy as np
import pytest
from PIL import Image, ImageFile

from llava_som.images import ImageError, list_images, open_image, resolve_inside


def save(path, image, **options):
    image.save(path, **options)
    return path


def test_modes_become_rgb(tmp_path):
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    files = [
        save(tmp_path / "rgb.png", red),
        save(tmp_path / "palette.png", red.convert("P")),
        save(tmp_path / "cmyk.jpg", red.convert("CMYK"), quality=100),
        save(tmp_path / "animated.gif", red, save_all=True, append_images=[Image.new("RGB", (6, 4), (0, 255, 0))]),
    ]
    for file in files:
        image = open_image(file)
        assert (image.mode, image.size) == ("RGB", (6, 4)), file
        assert np.abs(np.asarray(image).astype(int) - [255, 0, 0]).max() <= 6, file


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    pixels = np.asarray(open_image(save(tmp_path / "deep.png", Image.fromarray(ramp))))[..., 0]
    assert np.abs(pixels.astype(int) - ramp / 257).max() <= 1


def test_transparency_is_laid_over_white(tmp_path):
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert open_image(save(tmp_path / "clear.png", clear)).getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    file = save(tmp_path / "rotated.jpg", Image.new("RGB", (8, 4)), exif=exif)
    assert open_image(file).size == (4, 8)


@pytest.mark.parametrize("a_library_was_lax", [False, True])
def test_bad_files_are_named(tmp_path, monkeypatch, a_library_was_lax):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", a_library_was_lax)
    truncated = tmp_path / "truncated.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    save(truncated, Image.fromarray(noise))
    truncated.write_bytes(truncated.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    bomb = save(tmp_path / "bomb.png", Image.new("1", (2000, 2000)))
    for name, message in [
        ("truncated.png", "corrupt or cut short"),
        ("text.jpg", "is not an image"),
        ("empty.png", "is not an image"),
        ("absent.png", "no such file"),
    ]:
        with pytest.raises(ImageError, match=message) as error:
            open_image(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3_000_000)
    with pytest.raises(ImageError, match="more than 3 million pixels"):
        open_image(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    huge = save(tmp_path / "huge.png", Image.new("1", (10_000, 10_000)))
    with pytest.raises(ImageError, match="more than 89 million pixels"):
        open_image(huge)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_paths_may_not_leave_the_root(tmp_path, path):
    with pytest.raises(ImageError, match="outside the image root"):
        resolve_inside(path, tmp_path)


def test_a_link_may_not_leave_the_root(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.png").symlink_to(save(tmp_path / "outside.png", Image.new("RGB", (1, 1))))
    with pytest.raises(ImageError, match="outside the image root"):
        open_image("link.png", root=tmp_path / "root")


def test_list_images_is_sorted_and_recursive(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ["b/2.PNG", "a.jpg", "notes.txt"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")  # opening it will say what is wrong
    (tmp_path / "folder.jpg").mkdir()
    assert [file.relative_to(tmp_path).as_posix() for file in list_images(tmp_path)] == ["a.jpg", "b/2.PNG", "c.png"]
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "absent")

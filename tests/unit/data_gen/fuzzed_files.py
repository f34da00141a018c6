"""Hostile files made from real ones, by number: case n of a seed is always the same file.

An image case writes one picture (or something that only looks like one) into a folder; an annotation case gives the
bytes of a damaged annotation file.
"""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageCms

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF"}
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "F")


@cache
def photo() -> Image.Image:
    from skimage import data

    return Image.fromarray(data.chelsea()).resize((150, 100))


def encoded(suffix: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or photo()).save(file, FORMATS[suffix], **options)
    return file.getvalue()


def any_suffix(rng: Random) -> str:
    return rng.choice(list(FORMATS))


def truncated(rng: Random, folder: Path) -> None:
    suffix = any_suffix(rng)
    content = encoded(suffix)
    (folder / f"cut{suffix}").write_bytes(content[: rng.randrange(len(content))])


def flipped(rng: Random, folder: Path) -> None:
    suffix = any_suffix(rng)
    (folder / f"flipped{suffix}").write_bytes(flipped_bytes(encoded(suffix), rng))


def flipped_bytes(good: bytes, rng: Random) -> bytes:
    """A few bytes changed, mostly near the start, where the structure is."""
    content = bytearray(good)
    for _ in range(rng.randint(1, 12)):
        reach = rng.choice((60, 600, len(content)))
        content[rng.randrange(min(reach, len(content)))] = rng.randrange(256)
    return bytes(content)


def not_an_image(rng: Random, folder: Path) -> None:
    contents = (b"", b"\0" * 5000, b"%PDF-1.7\n", b"PK\x03\x04" + rng.randbytes(300), b"<html>404</html>", b"GIF89a")
    contents += (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"version https://git-lfs.github.com/spec/v1\n")
    (folder / f"page{any_suffix(rng)}").write_bytes(rng.choice(contents))


def another_suffix(rng: Random, folder: Path) -> None:
    (folder / f"renamed{any_suffix(rng)}").write_bytes(encoded(any_suffix(rng)))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG from its parts, checksums right; nothing checks that they belong together."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *more, (b"IDAT", data), (b"IEND", b""))
    parts = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bomb(rng: Random, folder: Path) -> None:
    """Far more pixels, or text, than bytes."""
    side = rng.choice((0, 7000, 12_000, 50_000, 2**31 - 1, 2**32 - 1))
    gif = b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0,\0\0\0\0" + struct.pack("<HH", 65_535, 65_535)
    height = rng.choice((2**30, -(2**31)))
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 2**30, height, 1, 24, *[0] * 6)
    written: dict[str, Callable[[], bytes]] = {
        "pixels.png": lambda: png(
            side, side, 1, 0, zlib.compress(bytes(side * (side // 8 + 1) if side < 9000 else 99), 1)
        ),
        "thin.png": lambda: png(2**31 - 1, 1, 8, 0, zlib.compress(bytes(99))),
        "text.png": lambda: png(1, 1, 8, 0, zlib.compress(b"\0\0"), (b"zTXt", b"x\0\0" + megabytes(50))),
        "profile.png": lambda: png(1, 1, 8, 0, zlib.compress(b"\0\0"), (b"iCCP", b"x\0\0" + megabytes(50))),
        "canvas.gif": lambda: gif + b"\0\x02\x02L\x01\0;",
        "declared.bmp": lambda: bmp + bytes(99),
    }
    name = rng.choice(list(written))
    (folder / name).write_bytes(written[name]())


def megabytes(count: int) -> bytes:
    """So much text, compressed."""
    return zlib.compress(b"a" * count * 1_000_000, 1)


def odd_mode(rng: Random, folder: Path) -> None:
    mode, suffix = rng.choice(MODES), any_suffix(rng)
    image = photo().convert("L") if mode.startswith(("I", "F")) else photo()
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(image, to_lab)
    elif mode.startswith("I;16"):
        image = Image.fromarray(np.asarray(image).astype(">u2" if mode == "I;16B" else "<u2") * 257)
    else:
        image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    if mode == "F":
        image = Image.fromarray(np.asarray(image) * rng.choice((1.0, np.nan, np.inf, -1e30)))
    if mode in ("P", "L", "RGB"):
        image.info["transparency"] = {"P": bytes(range(256)), "L": 7, "RGB": (1, 2, 3)}[mode]
    try:
        content = encoded(suffix, image)
    except (OSError, ValueError, KeyError):  # no such picture in this format
        compression = rng.choice(("raw", "tiff_lzw", "jpeg", "tiff_deflate"))
        suffix, content = ".tif", encoded(".tif", photo(), compression=compression)
    (folder / f"mode{suffix}").write_bytes(content)


def odd_shape(rng: Random, folder: Path) -> None:
    long = rng.choice((1, 2, 3, 500, 8000, 60_000))
    size = rng.choice(((1, long), (long, 1), (2, long), (long, 3)))
    Image.new(rng.choice(("L", "RGB", "RGBA")), size).save(folder / "shape.png")


def animated(rng: Random, folder: Path) -> None:
    frames = [photo().rotate(10 * turn).resize((60 + turn, 40)) for turn in range(rng.randint(2, 5))]
    suffix = rng.choice((".gif", ".png", ".webp", ".tif"))
    content = encoded(suffix, frames[0], save_all=True, append_images=[f.resize(frames[0].size) for f in frames[1:]])
    (folder / f"moving{suffix}").write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])


def odd_metadata(rng: Random, folder: Path) -> None:
    """EXIF with any orientation or none that can be read, and colour profiles of noise."""
    suffix = rng.choice((".jpg", ".png", ".webp", ".tif"))
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65_535, "left", 2.5))
    exif[0x010E] = "x" * rng.choice((1, 5000))
    try:
        block = bytearray(exif.tobytes())
    except struct.error:  # an orientation that no EXIF can hold
        block = bytearray(b"Exif\0\0MM\0*")
    for _ in range(rng.choice((0, 0, 3, 20))):
        block[rng.randrange(6, len(block))] = rng.randrange(256)
    options = {"exif": bytes(block)} if suffix != ".tif" else {}
    content = encoded(suffix, icc_profile=rng.randbytes(rng.choice((1, 128, 60_000))), **options)
    (folder / f"metadata{suffix}").write_bytes(content)


def odd_name(rng: Random, folder: Path) -> None:
    names = [b"\xff\xfe.jpg", b"new\nline.jpg", b"-rf.jpg", "\U0001f408.jpg".encode(), b"n" * 240 + b".jpg", b" .jpg"]
    names += [b"a\\b.jpg", b"..jpg", b".jpg.jpg", b"a.JPG", "e\u0301.jpg".encode(), b"%s{0}.jpg", b"[1].jpg"]
    (folder / os.fsdecode(rng.choice(names))).write_bytes(encoded(".jpg"))


def not_a_file(rng: Random, folder: Path) -> None:
    path = folder / "thing.jpg"
    kind = rng.choice(("folder", "dangling", "loop", "outside", "pipe", "device"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        targets = {"dangling": "nothing.jpg", "loop": "thing.jpg", "outside": "/etc/hostname", "device": "/dev/zero"}
        path.symlink_to(targets[kind])


IMAGE_CASES: tuple[Callable[[Random, Path], None], ...] = (
    *(truncated, flipped, not_an_image, another_suffix, bomb, flipped, odd_mode, truncated, odd_shape, animated),
    *(odd_metadata, flipped, odd_mode, odd_name, not_a_file),
)


def write_fuzzed_image(number: int, folder: Path) -> str:
    """Case `number` written into `folder`; returns what kind of case it is."""
    kind = IMAGE_CASES[number % len(IMAGE_CASES)]
    kind(Random(number), folder)
    return kind.__name__


HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**400, 2**63, 1e-320, 7.5),
    *("", "x", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "n" * 5000, "\n\n", "voc.jpg/x", "."),
    *([], [[]], [[[]]], {}, [None], {"size": [2, 2], "counts": [1, 3]}, {"size": [100, 150], "counts": "`"}),
    *({"size": [100, 150], "counts": [2**62, 2**62, 2**62, 2**62, 15_000]}, {"size": [100, 150], "counts": {}}),
    *({"size": [100, 150], "counts": [15_000.5]}, {"size": [100, 150], "counts": [-5, 15_005]}),
    *({"size": [2**40, 2**40], "counts": [1]}, [[1, 2, 3, 4, float("nan"), 6]], [[0, 0, 1e300, 0, 5, 5]]),
    *([[10**400] * 6], [[0] * 6], [[1, 2]]),
    *([0, 0, 0, 0], [1e308, 0, 1e308, 5], [5, 5, -5, -5], [0, 0, 10**400, 1], ["0", "0", "9", "9"], [[0], 0, 5, 5]),
)  # fmt: skip


def mutated(content: Any, rng: Random) -> Any:
    """A copy of parsed JSON in which one to three places, at any depth, hold something else or are gone."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        places = [(node, key) for node in nodes(content) for key, _ in items(node)]
        if not places:
            break
        node, key = rng.choice(places)
        if rng.random() < 0.2:
            del node[key]
        else:
            node[key] = copy.deepcopy(rng.choice(HOSTILE))
    return content


def nodes(content: Any) -> list[Any]:
    """Every list and dict in parsed JSON."""
    found = [content] if isinstance(content, list | dict) else []
    for node in found:  # grows while it is walked
        found += [child for _, child in items(node) if isinstance(child, list | dict)]
    return found


def items(node: Any) -> list[tuple[Any, Any]]:
    """Keys and values of a dict, places and values of a list."""
    return list(node.items() if isinstance(node, dict) else enumerate(node))


def fuzzed_json(content: Any, number: int) -> bytes:
    """Case `number` of a damaged annotation file, from the content of a good one."""
    rng = Random(number)
    good = json.dumps(content).encode()
    deep = rng.choice((900, 100_000))
    if number % 3:
        return json.dumps(mutated(content, rng)).encode()
    cut = rng.randrange(len(good))
    return rng.choice(
        (
            good[:cut],
            good[:cut] + rng.randbytes(3) + good[cut + 3 :],
            b"",
            b"\xff\xfe" + good.decode().encode("utf-16-le"),
            b"[" * deep,
            b"[" * deep + b"]" * deep,
            b'{"a":' * deep + b"1" + b"}" * deep,
            b"9" * 5000,
            b"[1e999]",
            good[:-1] + b',"images":7}',
            b"null",
            b'"text"',
            rng.randbytes(200),
        )
    )

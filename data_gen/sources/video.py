"""Videos: points followed through windows of frames, marked on one frame, with the way each of them will go.

The source of Trace-of-Mark (Magma, arXiv 2502.13130, section 3.2): the picture is the first frame of a window, a region
is a small disc around a point, and its `trace` says where that point is in this frame and in those that follow, in the
first frame's view. data_gen/tracks.py follows points, data_gen/motion.py takes the camera out and chooses.

Limits: the camera's motion is taken to be a homography, so in a deep scene near things seem to move when the camera
does; points of a smooth surface beside a moving edge are drawn along with it; nothing is followed across a cut.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from PIL import Image

from data_gen.motion import REFERENCE_HEIGHT, MarkedPoint, choose_marks, motion_start, steady, usable_points
from data_gen.sources import SOURCES
from data_gen.sources.base import FileSource, ImageRef
from data_gen.tracks import Tracks, grid_points, read_cotracker, track_points
from llava_som.config_file import option
from llava_som.images import ImageError
from llava_som.marks.region import Region

if TYPE_CHECKING:
    import cv2


@dataclass(frozen=True)
class Window:
    """Every `step`-th frame of a video of `length` frames from `first` on; or what is wrong with the video."""

    first: int = 0
    step: int = 1
    length: int = 0
    problem: str = ""


@SOURCES.register("video")
@dataclass(frozen=True, kw_only=True)
class VideoSource(FileSource):
    """Frames of videos, some points of each that move and some that do not, and their traces; for recipe=trace."""

    medium: ClassVar[str] = "video"
    suffixes: ClassVar[frozenset[str]] = frozenset(
        {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".gif"}
    )
    has_names: ClassVar[bool] = False
    has_traces: ClassVar[bool] = True

    images: Path = option(help="folder of videos, or one video file")
    tracks: Path | None = option(
        None, help="folder of CoTracker's output, <video>.npz with `tracks` and `visibility`; else optical flow tracks"
    )
    window_frames: int = option(16, help="frames of a window")
    fps: float | None = option(None, help="frames a second to look at, others are left out; every frame when not given")
    windows: int | None = option(None, help="at most this many windows of a video, evenly spread; all when not given")
    start: Literal["first", "motion"] = option(
        "first", help="the frame shown: the window's first, or one drawn from those with half of the motion still ahead"
    )
    camera: Literal["auto", "always", "never"] = option(
        "auto", help="take the camera's motion out where most points move, always (head cameras), or never"
    )
    points_per_side: int = option(15, help="points to follow along each side of the frame")
    point_radius: float = option(0.03, help="of the disc that is a point's region, as a share of the longer side")
    seed: int = option(0, help="the run's seed; draws the number of marks, their order and start=motion")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracks is not None and not self.tracks.is_dir():
            raise ValueError(f"tracks={self.tracks}: no such folder. Give the one that holds <video>.npz files.")
        for key, least in (("window_frames", 2), ("windows", 1), ("points_per_side", 2)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"{key}={value}: has to be at least {least}.")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps={self.fps}: give frames a second, more than 0.")
        if not 0 < self.point_radius < 0.5:
            raise ValueError(f"point_radius={self.point_radius}: a share of the longer side, between 0 and 0.5.")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each window, "clip/000032" for the one that starts at frame 32 of clip.mp4.

        A video that cannot be used has one too, so that its fault is reported and it does not just disappear.
        """
        return [
            ImageRef(f"{video.id}/{window.first:06d}", video.path, (window,))
            for video in super().refs()
            for window in self._windows(video)
        ]

    def load(self, ref: ImageRef) -> Image.Image:
        """The frame to be marked; an ImageError when the window cannot be read."""
        return _followed(self, ref)[0]

    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """A disc around each chosen point, cut to the image; its id is the point's place in the grid."""
        radius = max(2, round(self.point_radius * max(image.size)))
        return [
            Region(
                *disc(point.trace[0], radius, image.size),
                image.size,
                source="video",
                id=str(point.index),
                attributes=("moving",) if point.is_moving else ("still",),
                trace=point.trace,
            )
            for point in _followed(self, ref)[1]
        ]

    def refuse_output(self, out: Path) -> None:
        """Nothing to refuse: what is written are no videos."""

    def _windows(self, video: ImageRef) -> list[Window]:
        """The windows of one video; one that says what is wrong when there is none."""
        try:
            length, rate = probe(self.file(video))
        except ImageError as error:
            return [Window(problem=str(error))]
        if self.fps is not None and not 0 < rate < 1000:
            return [Window(problem=f"{video.path}: states no frame rate. Leave fps= out.")]
        step = 1 if self.fps is None else max(1, round(rate / self.fps))
        span = (self.window_frames - 1) * step + 1
        if length < span:
            return [Window(problem=f"{video.path}: has {length} frames, a window takes {span}. Lower window_frames=.")]
        starts = range(0, length - span + 1, self.window_frames * step)
        if self.windows is not None and self.windows < len(starts):
            starts = [starts[k * len(starts) // self.windows] for k in range(self.windows)]
        return [Window(first, step, length) for first in starts]

    def _follow(self, ref: ImageRef) -> tuple[Image.Image, list[MarkedPoint]]:
        """The frame to be marked and its points."""
        (window,) = ref.annotations
        if window.problem:
            raise ImageError(window.problem)
        followed = range(window.first, window.first + self.window_frames * window.step, window.step)
        frames = _reader.read(self.file(ref), followed)
        size = frames[0].shape[1::-1]
        if self.tracks is None:
            tracks = flow_tracks(frames, self.points_per_side)
        else:
            assert ref.path is not None  # every ref of this source has a file
            every = read_cotracker(self.tracks / ref.path.with_suffix(".npz"), window.length, size)
            tracks = every.frames(followed)
        rng, shown = Random(f"{self.seed}:{ref.id}"), 0
        if self.start == "motion":
            seen = tracks.points(usable_points(tracks, size))
            shown = motion_start(steady(seen, size[1] / REFERENCE_HEIGHT, self.camera), rng)
        spacing = 2 * self.point_radius * max(size)
        return Image.fromarray(frames[shown]), choose_marks(
            tracks.frames(slice(shown, None)), size, rng, spacing, self.camera
        )


@lru_cache(maxsize=2)
def _followed(source: VideoSource, ref: ImageRef) -> tuple[Image.Image, list[MarkedPoint]]:
    """What `load` and then `regions` ask for, worked out once."""
    return source._follow(ref)


def flow_tracks(frames: Sequence[np.ndarray], points_per_side: int) -> Tracks:
    """A grid of points followed by optical flow, at a height of 512 as in Magma's demo; frames RGB [H, W, 3]."""
    import cv2

    height, width = frames[0].shape[:2]
    small = (max(1, round(width * REFERENCE_HEIGHT / height)), REFERENCE_HEIGHT)
    shrinks = height > REFERENCE_HEIGHT
    grey = [
        cv2.resize(
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
            small,
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        for frame in frames
    ]
    return track_points(grey, grid_points(small, points_per_side)).scaled(width / small[0], height / small[1])


def disc(centre: tuple[float, float], radius: int, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Left, top and mask of the disc around the pixel at a point, cut to an image of (W, H)."""
    reach = np.arange(-radius, radius + 1)
    whole = reach[:, None] ** 2 + reach[None] ** 2 <= radius**2
    x, y = (min(int(value), limit - 1) for value, limit in zip(centre, size, strict=True))
    left, top = max(0, x - radius), max(0, y - radius)
    mask = whole[top - y + radius :, left - x + radius :]
    return left, top, mask[: size[1] - top, : size[0] - left]


def probe(file: Path) -> tuple[int, float]:
    """Number of frames and frames a second, as the container states them; where it states no number, they are counted.

    Raises:
        ImageError: not a video that OpenCV can read.
    """
    import cv2

    capture = open_video(file)
    length, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    if not 0 < length < 1e8:
        length = 0
        while capture.grab():
            length += 1
    capture.release()
    return int(length), rate


def open_video(file: Path) -> cv2.VideoCapture:
    """An open video, its frames turned upright; an ImageError when it cannot be opened."""
    import cv2

    if not file.is_file():
        raise ImageError(f"{file}: no such file. Check the path, and whether a link points to it that is broken.")
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise ImageError(f"{file}: is not a video that OpenCV can read, or it is cut short. Export it again as .mp4.")
    return capture


class _Reader:
    """The video that is being read, and the frame that comes next.

    Frames are reached by reading on, never by seeking: OpenCV counts wrong when it seeks in MPEG-TS, MPEG-PS and in MP4
    with a variable frame rate. Windows come in order, so each frame is decoded about once (1 ms at 720p).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: Path | None = None

    def read(self, file: Path, indices: Sequence[int]) -> list[np.ndarray]:
        """The frames at ascending indices, RGB uint8 [H, W, 3]."""
        with self._lock:
            if self._file != file or self._next > indices[0]:
                self._capture, self._next, self._file = open_video(file), 0, file
            frames = [self._frame(index) for index in indices]
        if len({frame.shape for frame in frames}) > 1:
            raise ImageError(f"{file}: its frames change their size. Export it again at one size.")
        return frames

    def _frame(self, index: int) -> np.ndarray:
        import cv2

        found = True
        while found and self._next <= index:
            found = self._capture.grab()
            self._next += found
        found, frame = self._capture.retrieve() if found else (False, None)
        if not found:
            file, self._file = self._file, None
            raise ImageError(f"{file}: ends at frame {self._next}, damaged or cut short. Fetch or export it again.")
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


_reader = _Reader()

"""Following points through the frames of a video: where each one is in every frame, and whether it is seen there.

Two origins: Lucas & Kanade's optical flow (1981; pyramidal, in OpenCV), which needs no weights, and files that
CoTracker (arXiv 2410.11831) wrote. Optical flow needs texture and never finds a lost point again; CoTracker can.

Every step is checked by going back (the forward-backward error of Kalal et al., ICPR 2010): a point that does not
return to where it came from was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RETURN_TOLERANCE = 0.5  # pixels between a point and its way there and back
_WINDOW, _LEVELS = (11, 11), 3  # optical flow compares windows of this size, in frames halved up to 3 times
_MIN_TEXTURE = 3e-5  # smallest eigenvalue of a window's gradients; below it, there is nothing to hold on to


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points followed through T frames.

    Args:
        xy: positions in pixels, [T, N, 2].
        visible: whether the point is seen in that frame, bool [T, N]; where it is not, the position is a guess.
    """

    xy: np.ndarray
    visible: np.ndarray

    def frames(self, index: slice | Sequence[int]) -> Tracks:
        """All points in some of the frames."""
        return Tracks(self.xy[index], self.visible[index])

    def points(self, index: np.ndarray) -> Tracks:
        """Some of the points, by bool mask or by index, in all frames."""
        return Tracks(self.xy[:, index], self.visible[:, index])

    def scaled(self, wider: float, higher: float) -> Tracks:
        """The tracks in the pixels of a video that is wider and higher by these factors."""
        return Tracks(self.xy * (wider, higher), self.visible)


def grid_points(size: tuple[int, int], per_side: int) -> np.ndarray:
    """The centres of `per_side` x `per_side` equal cells of a frame of (W, H), row by row: x and y, [N, 2]."""
    middle = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(middle * size[0], middle * size[1])
    return np.stack([x.ravel(), y.ravel()], axis=1)


def track_points(frames: Sequence[np.ndarray], points: np.ndarray) -> Tracks:
    """Follow points of the first frame by optical flow.

    Args:
        frames: T grey frames, uint8 [H, W], all of one size; window and tolerance suit a height of about 512.
        points: x and y in the first frame, [N, 2].

    Returns:
        Tracks in which a point that was lost or left the frame is not visible from then on, and stays where it was.
    """
    height, width = frames[0].shape
    xy = np.empty((len(frames), len(points), 2), np.float32)
    visible = np.ones(xy.shape[:2], bool)
    xy[0] = points
    for t in range(1, len(frames)):
        moved, found = _flow(frames[t - 1], frames[t], xy[t - 1])
        back, found_back = _flow(frames[t], frames[t - 1], moved)
        inside = ((moved >= 0) & (moved <= (width - 1, height - 1))).all(axis=1)
        returned = np.linalg.norm(back - xy[t - 1], axis=1) < RETURN_TOLERANCE
        visible[t] = visible[t - 1] & found & found_back & inside & returned
        xy[t] = np.where(visible[t, :, None], moved, xy[t - 1])
    return Tracks(xy.astype(float), visible)


def _flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points [N, 2] went from one frame to another, and whether the flow could tell, bool [N]."""
    import cv2

    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points[:, None],
        None,
        winSize=_WINDOW,
        maxLevel=_LEVELS,
        criteria=stop,
        minEigThreshold=_MIN_TEXTURE,
    )
    return moved[:, 0], found[:, 0] == 1


def read_cotracker(file: Path, frames: int, size: tuple[int, int]) -> Tracks:
    """The tracks of a whole video from a NumPy archive with what CoTracker returns.

    Args:
        file: an .npz with `tracks` [T, N, 2] or [1, T, N, 2], x and y in pixels; `visibility` [T, N], also with the
            extra axes, bool or 0 to 1; and, if the video was resized for tracking, `size`: its width and height then.
        frames: how many frames the video has.
        size: (width, height) of the video.

    Returns:
        Tracks with T = frames, in the pixels of the video.

    Raises:
        ValueError: no such file, not such an archive, other shapes, another number of frames or another resolution.
    """
    arrays = _read_archive(file)
    tracks, visibility = arrays["tracks"], arrays["visibility"]
    xy = tracks[0] if tracks.ndim == 4 and len(tracks) == 1 else tracks
    if xy.ndim != 3 or xy.shape[2] != 2 or not xy.size:
        raise ValueError(f"{file}: `tracks` has the shape {list(tracks.shape)}, expected [T, N, 2] or [1, T, N, 2].")
    if visibility.size != xy.shape[0] * xy.shape[1]:
        raise ValueError(
            f"{file}: `visibility` has the shape {list(visibility.shape)}, expected {list(xy.shape[:2])} as `tracks`."
        )
    if len(xy) != frames:
        raise ValueError(f"{file}: holds {len(xy)} frames, its video {frames}. Track all frames of this video.")
    visible = visibility.reshape(xy.shape[:2]) > 0.5
    if not np.isfinite(xy[visible]).all():
        raise ValueError(f"{file}: `tracks` holds positions that are not finite. Track this video again.")
    tracked_size = arrays.get("size", np.array(size))
    if tracked_size.shape != (2,) or not (tracked_size > 0).all():
        raise ValueError(f"{file}: `size` is {tracked_size.tolist()}, expected the width and height that were tracked.")
    if (xy[visible] > tracked_size + 1).any():
        raise ValueError(
            f"{file}: has visible points outside of a frame of {tracked_size[0]}x{tracked_size[1]} pixels. If the "
            "video was resized for tracking, store `size`, its width and height at that time."
        )
    return Tracks(np.nan_to_num(xy.astype(float)), visible).scaled(*np.array(size) / tracked_size)


def _read_archive(file: Path) -> dict[str, np.ndarray]:
    """The numeric arrays of an .npz; nothing in it is ever unpickled."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file. Every video needs its own, named as the video.") from None
    except Exception as error:  # zipfile, zlib and numpy let through what they ran into
        raise ValueError(f"{file}: is not a NumPy archive of numbers ({error}). Write it with numpy.savez.") from None
    for name in ("tracks", "visibility"):
        if name not in arrays:
            raise ValueError(f"{file}: holds no `{name}`, only {', '.join(arrays) or 'nothing'}.")
    return arrays

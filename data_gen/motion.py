"""From point tracks to marks and traces: what moves, once the camera's own motion is taken out.

Trace-of-Mark (Magma, arXiv 2502.13130, algorithm 2). Lengths are stated in pixels of a frame 512 high, as in Magma's
demo, and grow with the frame; its robot data, tracked at 256, uses half of them. Where the paper, its demo and its
training data differ, the choice is given at the constant. Four things differ on purpose: lengths are measured again
after the camera's motion is gone, and only between frames that see the point; what trembles in place does not move; the
mark of a cluster is its medoid, not a random member; a frame whose camera motion cannot be found is bridged, not lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from data_gen.tracks import Tracks

REFERENCE_HEIGHT = 512
# Paper and demo 2; robot data the same (1 at a height of 256); human video 3.
MOVING_PX = 2.0  # a point moves that goes farther than this a step
REACH_PX = 8.0  # and gets as far as this: the noise of compression makes points of a smooth wall tremble
# Paper and robot data 2, demo 0.5: a slow pan goes unseen at 2 and adds up in the traces, to 20 px in 16 frames.
CAMERA_PX = 0.5  # a point may have been moved by the camera that goes farther than this a step
CAMERA_SHARE = 0.8  # the camera moves when more than this share of the points does
VISIBLE_SHARE = 0.5  # a point is of use that is seen in more than this share of the frames
REPROJECTION_PX = 4.0  # a point agrees with a camera motion that leaves it within this distance
MIN_AGREEMENT = 0.3  # of the points, for a camera motion to be believed; four of them always fit one
MAX_CLUSTERS = 5  # of moving points, paper: 1 to 5; twice as many of still ones


@dataclass(frozen=True)
class MarkedPoint:
    """A point to be marked.

    Attributes:
        index: which of the tracks it is.
        is_moving: whether it moves once the camera stands still.
        trace: x and y in the first frame and in every later one up to where it was last seen, in pixels of the first
            frame's view.
    """

    index: int
    is_moving: bool
    trace: tuple[tuple[float, float], ...]


def choose_marks(
    tracks: Tracks, size: tuple[int, int], rng: Random, spacing: float, camera: str = "auto"
) -> list[MarkedPoint]:
    """The points of the first frame to be marked: some that move and twice as many that do not, in random order.

    Args:
        tracks: of a window whose first frame is the picture to be marked.
        size: (width, height) of the frames.
        rng: draws the number of marks and their order.
        spacing: no two marks are closer than this, in pixels.
        camera: "always", "never", or "auto": its motion is taken out where most points move.
    """
    unit = size[1] / REFERENCE_HEIGHT
    usable = np.flatnonzero(usable_points(tracks, size))
    still_view = steady(tracks.points(usable), unit, camera)
    moving = moving_points(still_view, unit)
    paths = bridged(still_view)
    count = rng.randint(1, max(1, min(MAX_CLUSTERS, int(moving.sum()))))
    chosen: list[int] = []
    for group, clusters in ((np.flatnonzero(moving), count), (np.flatnonzero(~moving), 2 * count)):
        chosen += spread_medoids(paths, group, clusters, spacing, chosen)
    rng.shuffle(chosen)  # the order of the marks must not tell which of them move
    last_seen = last_visible(still_view)
    return [
        MarkedPoint(int(usable[k]), bool(moving[k]), tuple(map(tuple, paths[: last_seen[k] + 1, k].round(2).tolist())))
        for k in chosen
    ]


def usable_points(tracks: Tracks, size: tuple[int, int]) -> np.ndarray:
    """Which points are seen in the first frame, inside of it, and in more than half of all frames, bool [N]."""
    inside = ((tracks.xy[0] >= 0) & (tracks.xy[0] < size)).all(axis=1)
    return inside & tracks.visible[0] & (tracks.visible.mean(axis=0) > VISIBLE_SHARE)


def moving_points(tracks: Tracks, unit: float) -> np.ndarray:
    """Which points move, bool [N]; camera motion taken out, `unit` pixels for one of a frame 512 high."""
    reach = (np.linalg.norm(tracks.xy - tracks.xy[0], axis=2) * tracks.visible).max(axis=0)
    return (mean_steps(tracks) > MOVING_PX * unit) & (reach > REACH_PX * unit)


def mean_steps(tracks: Tracks) -> np.ndarray:
    """Mean distance between neighbouring frames that both see the point, [N]; 0 where there are none."""
    steps, seen = _steps(tracks)
    return (steps * seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)


def steady(tracks: Tracks, unit: float, camera: str = "auto") -> Tracks:
    """The tracks as a camera would have seen them that stood still, where it did not."""
    if camera == "auto":
        moved = mean_steps(tracks) > CAMERA_PX * unit
        camera = "always" if moved.size and moved.mean() > CAMERA_SHARE else "never"
    return stabilised(tracks, REPROJECTION_PX * unit) if camera == "always" else tracks


def stabilised(tracks: Tracks, reprojection: float) -> Tracks:
    """The tracks in the view of the first frame, the camera's motion taken to be a homography.

    A frame without a credible homography keeps its place, and all of its points count as not seen there.
    """
    import cv2

    xy, visible = tracks.xy.copy(), tracks.visible.copy()
    for t in range(1, len(xy)):
        homography = camera_motion(tracks, t, reprojection)
        if homography is None:
            visible[t] = False
        else:
            xy[t] = cv2.perspectiveTransform(tracks.xy[t][None], homography)[0]
    return Tracks(xy, visible)


def camera_motion(tracks: Tracks, t: int, reprojection: float) -> np.ndarray | None:
    """The homography [3, 3] from frame `t` to the first one; None where too few points agree on one."""
    import cv2

    common = tracks.visible[0] & tracks.visible[t]
    if common.sum() < 4:
        return None
    homography, agree = cv2.findHomography(tracks.xy[t, common], tracks.xy[0, common], cv2.RANSAC, reprojection)
    if homography is None or not np.isfinite(homography).all() or agree.mean() < MIN_AGREEMENT:
        return None
    return homography


def bridged(tracks: Tracks) -> np.ndarray:
    """The positions [T, N, 2] with straight lines over frames that do not see a point; it stays where last seen."""
    time = np.arange(len(tracks.xy))
    filled = tracks.xy.copy()
    for k, seen in enumerate(tracks.visible.T):
        for axis in (0, 1):
            filled[:, k, axis] = np.interp(time, time[seen], tracks.xy[seen, k, axis])
    return filled


def last_visible(tracks: Tracks) -> np.ndarray:
    """The last frame that sees each point, [N]."""
    return len(tracks.visible) - 1 - tracks.visible[::-1].argmax(axis=0)


def spread_medoids(paths: np.ndarray, group: np.ndarray, clusters: int, spacing: float, taken: list[int]) -> list[int]:
    """One point of each cluster of like paths: the most central one that keeps its distance from those `taken`.

    Args:
        paths: positions of all points, [T, N, 2].
        group: which of them to choose from, [n].
        clusters: how many, at most n.
        spacing: smallest distance in the first frame between two points.
        taken: points chosen before.

    Returns:
        At most `clusters` points; a cluster whose points are all too close to others has none.
    """
    chosen: list[int] = []
    flat = paths[:, group].transpose(1, 0, 2).reshape(len(group), 2 * len(paths))
    for members in kmeans(flat, clusters):
        remoteness = [np.linalg.norm(flat[members] - flat[member], axis=1).sum() for member in members]
        for k in group[members[np.argsort(remoteness, kind="stable")]]:
            others = paths[0, [*taken, *chosen]]
            if (np.linalg.norm(others - paths[0, k], axis=1) >= spacing).all():
                chosen.append(int(k))
                break
    return chosen


def kmeans(vectors: np.ndarray, clusters: int) -> list[np.ndarray]:
    """The members of each cluster of vectors [n, d], none of them empty; at most one cluster for each vector."""
    import cv2

    if len(vectors) <= clusters:  # OpenCV would take the numbers of a single vector for so many vectors
        return [np.array([member]) for member in range(len(vectors))]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
    _, labels, _ = cv2.kmeans(vectors.astype(np.float32), clusters, None, stop, 3, cv2.KMEANS_PP_CENTERS)
    found = [np.flatnonzero(labels[:, 0] == label) for label in range(clusters)]
    return [members for members in found if members.size]


def motion_start(tracks: Tracks, rng: Random) -> int:
    """A frame drawn from those before which less than half of the motion has happened (Magma's human video).

    Args:
        tracks: of a window; camera motion taken out.
        rng: draws the frame.
    """
    steps, seen = _steps(tracks)
    per_frame = (steps * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    done = np.cumsum(per_frame) / max(per_frame.sum(), 1e-9)
    return rng.randrange(max(1, int((done < 0.5).sum())))


def _steps(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Distance from each frame to the next, and whether both see the point; both [T - 1, N]."""
    return np.linalg.norm(np.diff(tracks.xy, axis=0), axis=2), tracks.visible[1:] & tracks.visible[:-1]

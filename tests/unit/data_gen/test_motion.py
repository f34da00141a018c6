from random import Random

import cv2
import numpy as np
import pytest

from data_gen.motion import (
    REFERENCE_HEIGHT,
    bridged,
    choose_marks,
    kmeans,
    mean_steps,
    motion_start,
    moving_points,
    spread_medoids,
    stabilised,
    steady,
    usable_points,
)
from data_gen.sources.video import flow_tracks
from data_gen.tracks import Tracks, grid_points
from tests.unit.data_gen.clips import MARGIN, SIZE, block, camera, film, texture

UNIT = SIZE[1] / REFERENCE_HEIGHT


def known_tracks(frames=16, movers=20, step=(2.0, 1.0), **motion):
    """Tracks of a grid, of which the first `movers` points also move, and their true positions in the first view."""
    start = grid_points(SIZE, 15)
    steps = np.where(np.arange(len(start))[:, None] < movers, step, 0.0)
    truth = start + np.arange(frames)[:, None, None] * steps
    seen = np.stack([cv2.perspectiveTransform(truth[t][None], camera(t, **motion))[0] for t in range(frames)])
    return Tracks(seen, np.ones(seen.shape[:2], bool)), truth


MOTIONS = [{"pan": (-2.5, 1.0)}, {"zoom": 1.01, "turn": 0.5}]


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_homography_takes_the_camera_out(motion):
    tracks, truth = known_tracks(**motion)
    assert np.abs(steady(tracks, UNIT).xy - truth).max() < 1e-3
    assert steady(tracks, UNIT, camera="never") is tracks


def test_a_camera_that_stands_still_is_left_alone():
    tracks, _ = known_tracks()
    assert steady(tracks, UNIT) is tracks


def test_a_frame_without_a_credible_homography_keeps_its_place_and_is_bridged():
    tracks, truth = known_tracks(pan=(2.0, 0.0))
    tracks.xy[5] = np.random.default_rng(0).uniform(0, 200, tracks.xy[5].shape)
    tracks.visible[9, 3:] = False  # three points fit any homography
    found = stabilised(tracks, 4 * UNIT)
    assert found.xy.shape == tracks.xy.shape
    assert np.flatnonzero(~found.visible.any(axis=1)).tolist() == [5, 9]
    assert np.abs(bridged(found) - truth).max() < 1e-3


def test_lengths_are_measured_between_frames_that_see_the_point():
    xy = np.zeros((4, 2, 2))
    xy[:, 0, 0] = [0, 3, 500, 503]
    visible = np.array([[1, 1], [1, 0], [0, 0], [1, 0]], bool)
    assert mean_steps(Tracks(xy, visible)).tolist() == [3.0, 0.0]
    assert bridged(Tracks(xy, visible))[:, 0, 0].tolist() == [0, 3, 253, 503]


def test_what_moves_goes_far_enough_a_step_and_does_not_just_tremble():
    t = np.arange(16)
    xs = np.stack([2.5 * t, 1.5 * t, 3.0 * (t % 2), 9.0 * (t % 2)], axis=1)
    tracks = Tracks(np.stack([xs, np.zeros_like(xs)], axis=2), np.ones(xs.shape, bool))
    assert moving_points(tracks, 1.0).tolist() == [True, False, False, True]
    assert moving_points(tracks.scaled(2, 2), 2.0).tolist() == [True, False, False, True]


def test_points_are_of_use_that_start_inside_and_are_seen_most_of_the_time():
    tracks, _ = known_tracks(frames=4)
    tracks.visible[0, 0] = tracks.visible[2:, 1] = tracks.visible[3:, 2] = False
    tracks.xy[0, 3] = (-1, 5)
    assert usable_points(tracks, SIZE)[:5].tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("motion", MOTIONS)
def test_two_textured_things_are_found_behind_the_camera_motion(motion):
    things = [block(1, (40, 50), (2.5, -0.5)), block(2, (150, 80), (-2.0, 1.5))]
    world = texture(SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN, 0)
    tracks = flow_tracks(film(world, things, **motion), 15)
    points = grid_points(SIZE, 15)
    usable = usable_points(tracks, SIZE)
    on = [usable & thing.holds(points) for thing in things]
    background = usable & ~np.any([thing.holds(points, rim=6) for thing in things], axis=0)
    view = steady(tracks, UNIT)
    drift = np.linalg.norm(view.xy - points, axis=2)
    assert background.sum() > 90 and drift[view.visible & background].max() < 1.5
    moving = moving_points(view, UNIT)
    assert not moving[background].any()
    for thing, its in zip(things, on, strict=True):
        assert its.sum() >= 6 and moving[its].all()
        truth = points[its] + np.arange(16)[:, None, None] * np.array(thing.step)
        assert np.linalg.norm(view.xy[:, its] - truth, axis=2)[view.visible[:, its]].max() < 2.0
    marks = choose_marks(tracks, SIZE, Random(1), spacing=10)
    movers = np.array([mark.index for mark in marks if mark.is_moving])
    assert all(its[movers].any() for its in on) and (on[0] | on[1])[movers].all()
    assert not any((on[0] | on[1])[mark.index] for mark in marks if not mark.is_moving)


def test_a_pan_of_half_a_pixel_does_not_end_up_in_the_traces():
    tracks, truth = known_tracks(pan=(0.5, 0.1))
    assert np.abs(tracks.xy - truth).max() > 7
    assert np.abs(steady(tracks, UNIT).xy - truth).max() < 1e-3


def test_there_is_one_to_five_times_a_moving_and_twice_as_many_still_marks():
    tracks, _ = known_tracks()
    counts = set()
    for seed in range(30):
        marks = choose_marks(tracks, SIZE, Random(seed), spacing=5)
        moving = [mark.is_moving for mark in marks]
        assert len(marks) == 3 * sum(moving)
        assert all(mark.is_moving == (mark.index < 20) for mark in marks)
        starts = np.array([mark.trace[0] for mark in marks])
        gaps = np.linalg.norm(starts[:, None] - starts, axis=2) + 99 * np.eye(len(starts))
        assert gaps.min() >= 5
        counts.add((sum(moving), moving[0]))
    assert {count for count, _ in counts} == {1, 2, 3, 4, 5} and len({first for _, first in counts}) == 2
    assert choose_marks(tracks, SIZE, Random(3), 5) == choose_marks(tracks, SIZE, Random(3), 5)


@pytest.mark.parametrize(("movers", "kinds"), [(0, {False}), (225, {True})])
def test_all_points_may_be_still_or_moving(movers, kinds):
    tracks, _ = known_tracks(movers=movers)
    marks = choose_marks(tracks, SIZE, Random(0), spacing=5, camera="never")
    assert {mark.is_moving for mark in marks} == kinds
    assert choose_marks(tracks.points(np.zeros(225, bool)), SIZE, Random(0), spacing=5) == []


def test_a_trace_ends_where_its_point_was_last_seen():
    tracks, truth = known_tracks(movers=225)
    tracks.visible[10:] = False
    (mark, *_) = choose_marks(tracks, SIZE, Random(0), spacing=5, camera="never")
    assert np.allclose(mark.trace, truth[:10, mark.index], atol=0.01)


def test_a_cluster_is_marked_at_its_medoid_or_the_next_best_that_keeps_its_distance():
    paths = np.array([[[0, 0], [4, 0], [5, 0], [6, 0], [40, 0]]], float)
    assert spread_medoids(paths, np.arange(5), 1, 2.0, []) == [2]
    assert spread_medoids(paths, np.arange(4), 1, 3.0, [2]) == [0]
    assert spread_medoids(paths, np.arange(5), 1, 99.0, [2]) == []


def test_clusters_are_never_empty_and_at_most_as_many_as_points():
    groups = np.repeat([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], 4, axis=0)
    found = kmeans(groups + np.random.default_rng(0).normal(size=groups.shape), 3)
    assert sorted(tuple(members) for members in found) == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)]
    assert 1 <= len(kmeans(np.zeros((3, 2)), 2)) <= 2
    for few in range(3):
        assert [members.tolist() for members in kmeans(np.zeros((few, 32)), max(few, 1))] == [[k] for k in range(few)]


def test_a_start_is_drawn_from_the_frames_with_half_of_the_motion_ahead():
    xy = np.zeros((8, 1, 2))
    xy[:, 0, 0] = [0, 0, 0, 0, 0, 10, 20, 30]
    tracks = Tracks(xy, np.ones((8, 1), bool))
    assert {motion_start(tracks, Random(seed)) for seed in range(99)} == {0, 1, 2, 3, 4}
    assert motion_start(Tracks(xy[:, :0], tracks.visible[:, :0]), Random(0)) in range(7)

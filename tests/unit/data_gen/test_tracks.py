import numpy as np
import pytest

from data_gen.tracks import grid_points, read_cotracker, track_points
from tests.unit.data_gen.clips import texture


def panned(frames=6, step=(3, -2), size=(256, 192)):
    world = texture(400, 300, 0)[..., 1]
    return [
        np.ascontiguousarray(world[60 - t * step[1] :][: size[1], 80 - t * step[0] :][:, : size[0]])
        for t in range(frames)
    ]


def test_the_grid_holds_the_centres_of_equal_cells():
    points = grid_points((300, 150), 15)
    assert points.shape == (225, 2) and points[0].tolist() == [10, 5] and points[1].tolist() == [30, 5]
    assert points[-1].tolist() == [290, 145]


def test_points_are_followed_to_a_tenth_of_a_pixel_until_they_leave_the_frame():
    points = grid_points((256, 192), 8)
    tracks = track_points(panned(), points)
    truth = points + np.arange(6)[:, None, None] * (3, -2)
    inside = ((truth >= 8) & (truth < (248, 184))).all(axis=2)  # near the border a window lacks its other half
    assert np.abs(tracks.xy - truth)[inside & tracks.visible].max() < 0.1
    assert tracks.visible[inside].mean() > 0.98
    assert not tracks.visible[~((truth >= 0) & (truth < (256, 192))).all(axis=2)].any()


def test_a_point_that_is_covered_is_lost_for_good_and_stays_where_it_was_seen():
    frames = panned(step=(0, 0))
    for t in (3, 4):
        frames[t][60:140, 80:180] = texture(100, 80, t)[..., 0]
    tracks = track_points(frames, np.array([[130.0, 100.0], [20.0, 170.0]]))
    assert tracks.visible.T.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    assert np.abs(tracks.xy[:, 0] - (130, 100)).max() < 0.1


def test_where_there_is_no_texture_nothing_is_claimed():
    assert not track_points([np.full((192, 256), 90, np.uint8)] * 4, grid_points((256, 192), 4)).visible[1:].any()


def archive(file, frames=5, points=4, **changes):
    xy = np.random.default_rng(0).uniform(0, 90, (frames, points, 2)).astype(np.float32)
    arrays = {"tracks": xy, "visibility": np.ones((frames, points), bool)} | changes
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
    return xy


@pytest.mark.parametrize("visibility", [np.eye(5, 4) > 0, np.eye(5, 4)[None, ..., None] * 0.9])
def test_what_cotracker_returns_is_read_with_or_without_its_batch_axis(tmp_path, visibility):
    file = tmp_path / "clip.npz"
    plain = archive(file)
    archive(file, tracks=plain[None] if visibility.ndim > 2 else plain, visibility=visibility)
    tracks = read_cotracker(file, 5, (100, 100))
    assert np.allclose(tracks.xy, plain) and np.array_equal(tracks.visible, np.eye(5, 4) > 0)


def test_tracks_of_a_resized_video_return_to_its_own_pixels(tmp_path):
    plain = archive(tmp_path / "clip.npz", size=np.array([100, 50]) * 2)
    assert np.allclose(read_cotracker(tmp_path / "clip.npz", 5, (400, 300)).xy, plain * (2, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": np.zeros((5, 4, 3))}, r"shape \[5, 4, 3\], expected \[T, N, 2\]"),
        ({"tracks": np.zeros((2, 5, 4, 2))}, r"shape \[2, 5, 4, 2\]"),
        ({"visibility": np.ones((4, 4))}, r"`visibility` has the shape \[4, 4\], expected \[5, 4\]"),
        ({"frames": 6}, "holds 6 frames, its video 5"),
        ({"visibility": None}, "holds no `visibility`, only tracks"),
        ({"tracks": np.full((5, 4, 2), np.nan)}, "not finite"),
        ({"tracks": np.full((5, 4, 2), 512.0)}, "outside of a frame of 100x100.*store `size`"),
        ({"size": np.array([0, 5])}, r"`size` is \[0, 5\]"),
        ({"tracks": np.array([{}], object)}, "is not a NumPy archive of numbers"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused_with_the_reason(tmp_path, changes, message):
    archive(tmp_path / "clip.npz", **changes)
    with pytest.raises(ValueError, match=message):
        read_cotracker(tmp_path / "clip.npz", 5, (100, 100))


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("tracks")
    with pytest.raises(ValueError, match=r"text.npz: is not a NumPy archive"):
        read_cotracker(tmp_path / "text.npz", 5, (100, 100))
    archive(tmp_path / "whole.npz")
    np.savez_compressed(tmp_path / "packed.npz", **np.load(tmp_path / "whole.npz"))
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    packed[80:90] = bytes(10)
    np.save(tmp_path / "one.npy", np.zeros(3))
    for damaged in (packed, (tmp_path / "one.npy").read_bytes()):
        (tmp_path / "text.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"text.npz: is not a NumPy archive"):
            read_cotracker(tmp_path / "text.npz", 5, (100, 100))
    with pytest.raises(ValueError, match=r"gone.npz: no such file. Every video needs its own"):
        read_cotracker(tmp_path / "gone.npz", 5, (100, 100))

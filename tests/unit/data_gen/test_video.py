import pickle
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_gen.config import build
from data_gen.recipes.trace import CELLS, TraceRecipe, parse_trace
from data_gen.requests import Answer, EncodedImage, Rejected, Tagged
from data_gen.sources.base import ImageRef
from data_gen.sources.video import VideoSource, disc, probe
from data_gen.tracks import grid_points
from llava_som.images import ImageError
from llava_som.marks import mark_image
from tests.unit.data_gen.clips import PAN, SIZE, blank_clip, cutouts, photo_clip, write_clips, write_video


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def regions_of(source, ref):
    return source.regions(ref, source.load(ref))


def fields(regions):
    return [(region.id, region.bbox_xywh, region.attributes, region.trace) for region in regions]


def tagged(source, ref):
    image = source.load(ref)
    return Tagged(ref.id, EncodedImage(b"", "image/png"), mark_image(image, source.regions(ref, image), "paper").record)


def test_windows_follow_each_other_and_are_named_by_their_first_frame(clips):
    refs = VideoSource(images=clips).refs()
    assert [ref.id for ref in refs] == ["astronaut/000000", "astronaut/000016", "deeper/chelsea/000000"]
    assert [str(ref.path) for ref in refs] == ["astronaut.mp4", "astronaut.mp4", "deeper/chelsea.avi"]
    (one,) = VideoSource(images=clips / "deeper" / "chelsea.avi").refs()
    assert one.id == "chelsea/000000"


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({"window_frames": 6}, [0, 6, 12, 18, 24, 30]),
        ({"window_frames": 6, "windows": 3}, [0, 12, 24]),
        ({"window_frames": 6, "fps": 8.0}, [0, 18]),  # of 24: every third frame, still counted at 24 a second
        ({"window_frames": 6, "fps": 60.0}, [0, 6, 12, 18, 24, 30]),
    ],
)
def test_frame_rate_and_number_of_windows_are_options(clips, options, starts):
    source = VideoSource(images=clips / "astronaut.mp4", **options)
    assert [ref.id for ref in source.refs()] == [f"astronaut/{start:06d}" for start in starts]


def test_frames_are_the_ones_named_in_whatever_order_they_are_asked_for(clips):
    import cv2

    capture = cv2.VideoCapture(str(clips / "astronaut.mp4"))
    frames = [capture.read()[1][..., ::-1] for _ in range(36)]
    source = VideoSource(images=clips / "astronaut.mp4", window_frames=4, fps=12.0)
    refs = source.refs()
    for k in (3, 0, 2, 1):
        assert np.array_equal(source.load(refs[k]), frames[8 * k])


def test_moving_marks_lie_on_the_things_that_move_and_follow_them(clips):
    """In the second window of astronaut the things pass each other, and one hides points of the other."""
    off, right = [], []
    for seed in range(8):
        source = VideoSource(images=clips, seed=seed)
        for ref in source.refs():
            first = int(ref.id[-6:])
            image, regions = source.load(ref), regions_of(source, ref)
            assert image.mode == "RGB" and image.size == SIZE
            for region in regions:
                assert region.source == "video" and max(region.mask.shape) <= 17
                if region.attributes == ("still",):
                    assert np.abs(np.subtract(region.trace, region.trace[0])).max() < 3
                    continue
                start = np.subtract(region.trace[0], np.multiply(first, PAN))  # in the view of the clip's first frame
                on = [thing for thing in cutouts() if thing.holds((start - np.multiply(first, thing.step))[None], 6)[0]]
                ways = [region.trace[0] + np.arange(len(region.trace))[:, None] * thing.step for thing in on]
                off += [region] * (not on)
                right += [any(np.linalg.norm(region.trace - way, axis=1).max() < 2 for way in ways)]
    assert not off and len(right) > 50 and np.mean(right) > 0.9


def test_a_clip_becomes_a_question_about_paths_and_its_answer(clips):
    source = VideoSource(images=clips)
    item = tagged(source, source.refs()[0])
    conversation = TraceRecipe().conversation(item, Random(0))
    request = next(conversation)
    with pytest.raises(StopIteration) as finished:
        conversation.send(Answer(request.truth))
    paths = parse_trace(finished.value.value[1].text)
    marks = {mark.id: mark for mark in item.record.marks}
    assert paths and set(paths) == {number for number, mark in marks.items() if mark.attributes == ("moving",)}
    for number, path in paths.items():
        (x, y), (width, height) = marks[number].point_xy, item.record.size
        assert np.abs(np.subtract(path[0], (CELLS * x / width, CELLS * y / height))).max() < 2
        speeds = [np.multiply(thing.step, (CELLS / SIZE[0], CELLS / SIZE[1])) for thing in cutouts()]
        steps = len(marks[number].trace) - 1
        assert min(np.abs(np.subtract(path[-1], path[0]) - steps * speed).max() for speed in speeds) < 5


def test_the_same_input_gives_the_same_regions_also_after_pickling(clips):
    source = VideoSource(images=clips)
    found = {ref.id: fields(regions_of(source, ref)) for ref in source.refs()}
    again = pickle.loads(pickle.dumps(VideoSource(images=clips / ".")))
    assert {ref.id: fields(regions_of(again, ref)) for ref in reversed(again.refs())} == found
    other = VideoSource(images=clips, seed=5)
    assert {ref.id: fields(regions_of(other, ref)) for ref in other.refs()} != found


def test_the_frame_shown_may_be_drawn_from_those_before_the_motion(clips):
    shown, shots = set(), photo_clip("chelsea")
    for seed in range(8):
        source = VideoSource(images=clips / "deeper", start="motion", seed=seed)
        (ref,) = source.refs()
        longest = max(len(region.trace) for region in regions_of(source, ref))
        frame = np.asarray(source.load(ref)).astype(float)
        nearest = min(range(16), key=lambda t: np.abs(frame - shots[t]).mean())
        assert nearest == 16 - longest <= 8
        shown.add(nearest)
    assert len(shown) > 2


def test_tracks_of_cotracker_are_used_where_they_are_given(tmp_path):
    blank_clip(tmp_path / "clips")  # in which optical flow finds nothing
    options = {"images": tmp_path / "clips", "tracks": tmp_path, "point_radius": 0.01}
    points = grid_points((80, 60), 8)
    tracks = points + np.arange(16)[:, None, None] * np.where(points[:, :1] < 40, (1.5, 0), (0, 0))
    np.savez(tmp_path / "blank.npz", tracks=tracks[None], visibility=np.ones((1, 16, 64), bool))
    source = build(VideoSource, options)
    (ref,) = source.refs()
    regions = regions_of(source, ref)
    assert {region.attributes for region in regions} == {("moving",), ("still",)}
    for region in regions:
        assert np.allclose(region.trace, tracks[:, int(region.id)], atol=0.01)
        assert (region.attributes == ("moving",)) == (region.trace[0][0] < 40)
    np.savez(tmp_path / "blank.npz", tracks=tracks[:9], visibility=np.ones((9, 64), bool))
    with pytest.raises(ValueError, match=r"blank.npz: holds 9 frames, its video 16"):
        build(VideoSource, {**options, "seed": 1}).load(ref)
    (tmp_path / "blank.npz").unlink()
    with pytest.raises(ValueError, match=r"blank.npz: no such file"):
        build(VideoSource, {**options, "seed": 2}).load(ref)


def test_every_video_that_cannot_be_used_is_listed_and_says_why(tmp_path, clips):
    whole = (clips / "deeper" / "chelsea.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "good.avi").write_bytes(whole)
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "outside.avi").symlink_to(clips / "deeper" / "chelsea.avi")
    write_video(tmp_path / "short.avi", photo_clip("coffee", frames=5))
    (tmp_path / "text.mp4").write_text("no video")
    source = VideoSource(images=tmp_path)
    faults = {}
    for ref in source.refs():
        try:
            assert regions_of(source, ref)
        except ImageError as error:
            faults[ref.id] = str(error)
    assert [ref.id for ref in source.refs()] == sorted([*faults, "good/000000"])
    expected = {
        "cut": "ends at frame",
        "empty": "is not a video that OpenCV can read",
        "gone": "no such file",
        "outside": "lies outside the image root",
        "short": "has 5 frames, a window takes 16. Lower window_frames=.",
        "text": "is not a video that OpenCV can read",
    }
    assert faults.keys() == {f"{name}/000000" for name in expected}
    for name, message in expected.items():
        assert message in faults[f"{name}/000000"]


def test_where_nothing_moves_there_are_only_still_marks(tmp_path):
    write_video(tmp_path / "still.avi", [photo_clip("coffee", frames=1)[0]] * 16)
    source = VideoSource(images=tmp_path)
    (ref,) = source.refs()
    item = tagged(source, ref)
    assert item.record.marks and all(mark.attributes == ("still",) for mark in item.record.marks)
    with pytest.raises(Rejected, match="nothing moves"):
        next(TraceRecipe().conversation(item, Random(0)))
    places = parse_trace(next(TraceRecipe(still="locate").conversation(item, Random(0))).truth)
    assert places.keys() == {mark.id for mark in item.record.marks}
    assert len({tuple(cells) for cells in places.values()}) == len(places)


def test_a_video_without_anything_to_follow_has_no_region(tmp_path):
    source = VideoSource(images=blank_clip(tmp_path))
    (ref,) = source.refs()
    assert source.load(ref).size == (80, 60) and regions_of(source, ref) == []


def test_a_video_that_states_no_length_is_counted(clips, monkeypatch):
    import cv2

    class Silent:
        def __init__(self, *arguments):
            self.capture = open_capture(*arguments)

        def get(self, key):
            return -1.0 if key == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(key)

        def __getattr__(self, name):
            return getattr(self.capture, name)

    open_capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Silent)
    assert probe(clips / "astronaut.mp4")[0] == 36


@pytest.mark.parametrize("centre", [(0.0, 0.0), (99.9, 49.9), (50.2, 25.7)])
def test_a_disc_is_cut_to_the_image(centre):
    left, top, mask = disc(centre, 5, (100, 50))
    assert left >= 0 and top >= 0 and left + mask.shape[1] <= 100 and top + mask.shape[0] <= 50
    assert mask[int(centre[1]) - top, int(centre[0]) - left] and not mask.all()


def test_a_folder_without_videos_says_so(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match=r"holds no video file \(.*\.mp4"):
        VideoSource(images=tmp_path).refs()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_frames": 1}, "window_frames=1: has to be at least 2"),
        ({"windows": 0}, "windows=0: has to be at least 1"),
        ({"points_per_side": 1}, "points_per_side=1: has to be at least 2"),
        ({"fps": 0.0}, "fps=0.0: give frames a second"),
        ({"point_radius": 0.5}, "point_radius=0.5: a share"),
        ({"tracks": "/nowhere"}, "tracks=/nowhere: no such folder"),
        ({"start": "middle"}, "start='middle'"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build(VideoSource, {"images": tmp_path, **options})


def test_a_name_that_is_not_text_is_an_error_of_that_video(tmp_path):
    source = VideoSource(images=tmp_path)
    bad = ImageRef("clip\udcff", (tmp_path / "clip\udcff.mp4").relative_to(tmp_path))
    with pytest.raises(ImageError, match="not valid UTF-8"):
        source.file(bad)

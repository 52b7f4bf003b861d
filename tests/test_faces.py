"""Finding, following, smoothing and cropping faces: with the real detector where pixels matter, else with marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import MarkDetector, close_eyes, mean_face, paint_face
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from talking_heads.errors import NoFaceError, SeveralFacesError
from talking_heads.landmarks import eye_distance, eye_openness
from talking_heads.media.reading import read_frames
from talking_heads.tracking import tracks
from talking_heads.tracking.crops import CROP_SCALE, MIN_CROP_SCALE, Crop, crop_around, face_size, roll
from talking_heads.tracking.detectors import LandmarkDetector, MediapipeDetector
from talking_heads.tracking.finding import find_faces, only_face
from talking_heads.tracking.tracks import (
    BRIDGED_SECONDS,
    Gap,
    Stretch,
    Track,
    _believed,
    follow_face,
    smooth,
    track_face,
)

EMPTY_AT_THE_END = Path(__file__).parents[2] / "shared/data/eval_open/clips/pyfeat_face_noface.mov"


def turned(points: np.ndarray, turns: int, size: tuple[int, int]) -> np.ndarray:
    """Places to which points (x, y) of an image of ``size`` (height, width) go under np.rot90."""
    height, width = size
    for _ in range(turns % 4):
        points = np.stack([points[..., 1], width - 1 - points[..., 0]], axis=-1)
        height, width = width, height
    return points


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance in eye distances."""
    return float(np.linalg.norm(found - expected, axis=1).mean() / eye_distance(expected))


# ------------------------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize(("width", "height"), [(1024, 768), (1500, 1500), (2048, 1536), (600, 2048)])
def test_small_faces_are_found_in_large_pictures(
    detector: MediapipeDetector, astronaut: np.ndarray, astronaut_face: np.ndarray, width: int, height: int
) -> None:
    picture = np.full((height, width, 3), 90, np.uint8)
    left, top = width - 550, height // 5
    picture[top : top + 512, left : left + 512] = astronaut
    (face,) = find_faces(picture, detector)
    assert error(face, astronaut_face + np.array([left, top])) < 0.05


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("tight", [False, True])
def test_turned_photos_give_the_same_face(
    detector: MediapipeDetector, astronaut: np.ndarray, astronaut_face: np.ndarray, turns: int, tight: bool
) -> None:
    """Also upside down, where the detector alone takes the mouth for the eyes."""
    corner = np.array([150, 40]) if tight else np.array([0, 0])
    photo = astronaut[40:190, 150:320] if tight else astronaut
    expected = turned(astronaut_face - corner, turns, photo.shape[:2])
    (face,) = find_faces(np.ascontiguousarray(np.rot90(photo, turns)), detector)
    assert face.dtype == np.float32
    assert error(face, expected) < 0.05
    assert np.cos(roll(face) - roll(expected)) > 0.99


def test_nobody(detector: MediapipeDetector, marks: MarkDetector) -> None:
    for size in ((40, 60), (300, 400)):
        assert find_faces(np.full((*size, 3), 90, np.uint8), detector) == []
    with pytest.raises(NoFaceError, match=r"No face found in photo 3\. Use a well-lit photo"):
        only_face(np.zeros((64, 64, 3), np.uint8), marks, "photo 3")


@pytest.mark.parametrize(
    ("seen", "lonely"),
    [
        ([50], [50]),
        ([0, 1, 2, 3], []),
        ([0, 1, 2, 30], [30]),
        ([0, 1, 2, 30, 31], []),
        ([0, 5, 10, 15], []),
        ([9, 40, 41], [9]),
    ],
)
def test_a_face_that_is_there_for_one_frame_only_was_none(seen: list[int], lonely: list[int]) -> None:
    found = [mean_face(100) if frame in seen else None for frame in range(60)]
    believed = _believed(found, 12.5)
    assert [k for k in seen if believed[k] is None] == lonely
    assert _believed(found, 12.5, settled=60) == found


class Pareidolia(MarkDetector):
    """Sees in every tile of a picture, besides what is there, a face that nobody put there."""

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        found = super().detect(image)
        return found if max(image.shape) > 300 else [*found, mean_face(60, x=70, y=60)]


def test_what_only_a_mirror_denies_is_no_face() -> None:
    """Real faces are seen in a mirrored tile as well, and in the mirrored place."""
    picture = np.zeros((512, 512, 3), np.uint8)
    assert find_faces(picture, Pareidolia()) == []
    paint_face(picture, 300, 300, 100)
    seen = find_faces(picture, MarkDetector())
    assert len(seen) == 1
    believed = find_faces(picture, Pareidolia())
    assert len(believed) == 1
    np.testing.assert_allclose(believed[0], seen[0], atol=1)


@pytest.mark.skipif(not EMPTY_AT_THE_END.is_file(), reason="needs ../shared/data/eval_open")
def test_clouds_are_no_faces(detector: MediapipeDetector) -> None:
    """The face leaves this clip; in the sky that follows the detector sees some."""
    track = track_face(read_frames(EMPTY_AT_THE_END), detector, fps=26.4)
    assert track.seen[:60].all()
    assert not track.seen[75:].any()
    assert len(track.warnings) == 1


def test_two_people(marks: MarkDetector) -> None:
    photo = np.zeros((200, 300, 3), np.uint8)
    paint_face(photo, 80, 90, 100)
    paint_face(photo, 220, 90, 80, person=1)
    with pytest.raises(SeveralFacesError, match=r"There are 2 faces in photo 1\. Say which one"):
        only_face(photo, marks, "photo 1")
    for number, x in ((1, 80), (2, 220)):  # from the left, whoever is larger
        assert only_face(photo, marks, number=number)[[36, 45]].mean(axis=0)[0] == pytest.approx(x, abs=1)
    for number in (0, 3):
        with pytest.raises(NoFaceError, match=f"There are 2 faces in the photo, and no face {number}"):
            only_face(photo, marks, number=number)


def test_people_in_the_background_are_overlooked(marks: MarkDetector) -> None:
    photo = np.zeros((200, 300, 3), np.uint8)
    paint_face(photo, 80, 90, 100)
    paint_face(photo, 220, 50, 40, person=1)
    face = only_face(photo, marks)
    assert face[[36, 45]].mean(axis=0) == pytest.approx([80, 90], abs=1)
    assert face_size(face) == pytest.approx(100, rel=0.05)


def test_two_real_people(detector: MediapipeDetector, astronaut: np.ndarray) -> None:
    head = astronaut[:240, 100:340]
    with pytest.raises(SeveralFacesError, match="2 faces"):
        only_face(np.hstack([head, head[:, ::-1]]), detector)
    small = np.full_like(head, 90)
    small[60:190, 60:190] = np.asarray(Image.fromarray(head).resize((130, 130)))
    assert only_face(np.hstack([small, head]), detector)[:, 0].min() > 240


@given(angle=st.floats(-np.pi, np.pi), scale=st.floats(0.5, 4))
def test_size_does_not_depend_on_rotation(angle: float, scale: float) -> None:
    face = mean_face(100)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert face_size(face @ turn.T) == pytest.approx(scale * face_size(face), rel=1e-3)
    assert np.cos(roll(face @ turn.T) - angle) == pytest.approx(1)


# ----------------------------------------------------------------------------------------------------------- cropping


@given(
    x=st.floats(0, 500),
    y=st.floats(0, 500),
    side=st.floats(20, 2000),
    angle=st.floats(-4, 4),
    size=st.sampled_from([64, 256]),
)
def test_points_go_into_the_crop_and_back(x: float, y: float, side: float, angle: float, size: int) -> None:
    crop = Crop(x, y, side, angle)
    matrix = crop.matrix(size)
    pixels = np.array([[0, 0], [size - 1, 0], [10, 50], [0.5 * (size - 1), 0.5 * (size - 1)]])
    picture = pixels @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(crop.to_crop(picture, size), pixels, atol=1e-2)
    np.testing.assert_allclose(picture[3], [x, y], atol=1e-6)
    assert np.linalg.norm(picture[1] - picture[0]) == pytest.approx(side * (size - 1) / size)


def test_a_crop_of_the_whole_picture_is_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Crop(31.5, 31.5, 64).cut(picture, 64), picture)
    np.testing.assert_array_equal(Crop(31.5, 31.5, 64, np.pi / 2).cut(picture, 64), np.rot90(picture, 1))


@settings(max_examples=60, deadline=None)
@given(side=st.floats(40, 400), angle=st.floats(-4, 4), dx=st.floats(-0.15, 0.15), dy=st.floats(-0.15, 0.15))
def test_pixels_land_where_the_matrix_says(side: float, angle: float, dx: float, dy: float) -> None:
    """A soft spot's centre, to a tenth of a pixel of the crop, also where the picture is reduced first."""
    size, spot = 32, np.array([250 + dx * side, 249.3 + dy * side])
    crop = Crop(250, 249.3, side, angle)
    y, x = np.mgrid[:503, :501]  # no multiple of any reduction
    squared = ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (0.07 * side) ** 2
    picture = np.round(250 * np.exp(-0.5 * squared)).astype(np.uint8)[..., None].repeat(3, axis=2)
    weight = crop.cut(picture, size)[..., 0].astype(float)
    y, x = np.mgrid[:size, :size]
    centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    np.testing.assert_allclose(centre, crop.to_crop(spot, size), atol=0.08)


def test_landmarks_and_pixels_of_a_crop_fit(
    detector: MediapipeDetector, astronaut: np.ndarray, astronaut_face: np.ndarray
) -> None:
    crop = crop_around(astronaut_face, astronaut.shape[:2])
    (seen,) = detector.detect(crop.cut(astronaut, 256))
    assert error(seen, crop.to_crop(astronaut_face, 256)) < 0.04
    assert abs(roll(seen)) < 0.03  # the crop is turned with the head


def test_beyond_the_edge_the_edge_goes_on() -> None:
    picture = np.full((40, 40, 3), 77, np.uint8)
    np.testing.assert_array_equal(Crop(0, 0, 60).cut(picture, 16), np.full((16, 16, 3), 77))


def test_reduction_averages_instead_of_picking() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (512, 512, 1), dtype=np.uint8).repeat(3, axis=2) * 255
    assert Crop(255.5, 255.5, 512).cut(noise, 32).astype(float).std() < 20


def test_a_crop_holds_the_face_with_room() -> None:
    face = mean_face(100, 300, 250)
    crop = crop_around(face, (600, 700))
    assert crop.side == pytest.approx(CROP_SCALE * face_size(face))
    inside = crop.to_crop(face, 256)
    assert inside.min() > 40
    assert inside.max() < 216


@settings(max_examples=200, deadline=None)
@given(x=st.floats(0, 400), y=st.floats(0, 300), size=st.floats(50, 180), angle=st.floats(-0.6, 0.6))
def test_a_crop_stays_inside_the_frame_where_it_can(x: float, y: float, size: float, angle: float) -> None:
    height, width = 300, 400
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face = (mean_face(size, 0, 0) @ turn.T + [x, y]).astype(np.float32)
    crop = crop_around(face, (height, width))
    assert MIN_CROP_SCALE * face_size(face) * 0.999 <= crop.side <= CROP_SCALE * face_size(face) * 1.001
    assert crop.angle == pytest.approx(angle, abs=1e-3)
    matrix = crop.matrix(64)
    corners = np.array([[-0.5, -0.5], [63.5, -0.5], [-0.5, 63.5], [63.5, 63.5]]) @ matrix[:, :2].T + matrix[:, 2]
    if crop.side > MIN_CROP_SCALE * face_size(face) * 1.001:
        assert corners.min() > -0.51
        assert corners[:, 0].max() < width - 0.49
        assert corners[:, 1].max() < height - 0.49
    assert 0 <= crop.x <= width
    assert 0 <= crop.y <= height


def test_one_crop_for_a_clip_ignores_a_few_odd_frames() -> None:
    track = np.stack([mean_face(100, 200, 200)] * 20)
    alone = crop_around(track[0], (400, 400))
    track[3:6] += 80
    clip = crop_around(track, (400, 400))
    assert (clip.x, clip.y, clip.side, clip.angle) == pytest.approx(
        (alone.x, alone.y, alone.side, alone.angle), abs=1e-3
    )


def test_angles_around_half_a_turn_have_a_median() -> None:
    faces = []
    for angle in np.pi + np.array([-0.1, 0.0, 0.1]):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        faces.append(mean_face(100, 0, 0) @ turn.T + 200)
    assert np.cos(crop_around(np.stack(faces), (400, 400)).angle) == pytest.approx(-1, abs=1e-3)


# ---------------------------------------------------------------------------------------------------------- smoothing


def test_smoothing_removes_jitter() -> None:
    still = np.repeat(mean_face(180)[None], 60, axis=0)
    jitter = np.random.default_rng(0).normal(0, 0.4, still.shape)
    left = smooth(still + jitter) - still
    assert left[3:-3].std() < 0.6 * jitter.std()
    assert left.std() < 0.62 * jitter.std()  # the ends are no worse


def test_smoothing_follows_a_moving_head_without_lag() -> None:
    path = np.stack([20 * np.sin(np.arange(80) / 8), 5 * np.cos(np.arange(80) / 8)], axis=-1)
    track = mean_face(180) + path[:, None]
    assert np.abs(smooth(track) - track)[4:-4].max() < 0.3


@pytest.mark.parametrize("size", [60, 180, 500])
@pytest.mark.parametrize("lids", [[1.0, 1.0, 1.0], [0.6, 1.0, 0.6]])
def test_a_blink_of_three_frames_stays(size: float, lids: list[float]) -> None:
    """How far lids come down, in any resolution, with a detector's jitter."""
    face = mean_face(size)
    track = np.stack([close_eyes(face, amount) for amount in [0.0] * 8 + lids + [0.0] * 8])
    noisy = track + np.random.default_rng(1).normal(0, 0.001 * size, track.shape)
    opened = eye_openness(face).mean()
    depth = 1 - eye_openness(smooth(noisy))[8:11].mean(axis=-1).min() / opened
    assert depth > 0.9


def test_short_tracks_pass_and_the_input_is_left_alone() -> None:
    track = np.stack([mean_face(100), mean_face(100) + 1])
    np.testing.assert_array_equal(smooth(track), track)
    longer = np.concatenate([track, track])
    kept = longer.copy()
    smooth(longer)
    np.testing.assert_array_equal(longer, kept)


# ---------------------------------------------------------------------------------------------------------- following


def clip(places: list[tuple[float, float] | None], size: tuple[int, int] = (160, 240)) -> Iterator[np.ndarray]:
    """Frames with one marked face at each place, and none for None."""
    for place in places:
        frame = np.zeros((*size, 3), np.uint8)
        if place is not None:
            paint_face(frame, *place, 60)
        yield frame


def eyes(track: Track) -> np.ndarray:
    """Points between the eyes, (T, 2)."""
    return track.landmarks[:, [36, 45]].mean(axis=1)


def test_a_face_is_followed(marks: MarkDetector) -> None:
    places = [(60 + 3 * t, 70 + t) for t in range(30)]
    seen: list[int] = []
    track = track_face(clip(places), marks, 25, seen.append)
    assert seen == list(range(1, 31))
    assert (len(track), track.fps, track.frame_size, track.gaps, track.warnings) == (30, 25, (160, 240), (), [])
    assert track.landmarks.dtype == np.float32
    assert track.seen.all()
    np.testing.assert_allclose(eyes(track), places, atol=1.5)


def test_frames_are_taken_one_at_a_time(marks: MarkDetector) -> None:
    alive = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= self.base is None

    def frames() -> Iterator[np.ndarray]:
        nonlocal alive
        for _ in range(20):
            frame = Counted((100, 100, 3), np.uint8)
            frame[:] = 0
            alive += 1
            paint_face(frame, 50, 50, 40)
            assert alive <= 3
            yield frame

    assert len(track_face(frames(), marks, 25)) == 20


def test_short_gaps_are_bridged(marks: MarkDetector) -> None:
    places: list[tuple[float, float] | None] = [(60 + 2 * t, 80) for t in range(30)]
    gap = int(BRIDGED_SECONDS * 25) - 2
    track = track_face(clip([*places[:10], *[None] * gap, *places[10 + gap :]]), marks, 25)
    assert track.gaps == ()
    assert np.flatnonzero(~track.seen).tolist() == list(range(10, 10 + gap))
    np.testing.assert_allclose(eyes(track), places, atol=1.5)


def test_long_gaps_are_held_and_said(marks: MarkDetector) -> None:
    places = [*[(60, 80)] * 100, *[None] * 75, *[(120, 80)] * 25]
    track = track_face(clip(places), marks, 25)
    assert track.gaps == (Gap(100, int(np.flatnonzero(~track.seen)[-1])),)
    assert track.gaps[0].last - 174 <= 4  # looked for every fifth frame
    np.testing.assert_allclose(eyes(track)[105:170], [[60, 80]] * 65, atol=1.5)
    np.testing.assert_allclose(eyes(track)[185:], [[120, 80]] * 15, atol=1.5)
    (sentence,) = track.warnings
    assert sentence.startswith("No face between 0:04 and 0:0")
    assert sentence.endswith(": the last pose is held.")


def test_the_sentence_of_a_gap() -> None:
    assert Gap(100, 174).sentence(25) == "No face between 0:04 and 0:07: the last pose is held."
    assert Gap(100, 114).sentence(25) == "No face between 0:04 and 0:05: the last pose is held."
    assert Gap(30 * 75, 30 * 125 - 1).sentence(30) == "No face between 1:15 and 2:05: the last pose is held."


def test_a_face_that_comes_late_and_leaves_early(marks: MarkDetector) -> None:
    track = track_face(clip([*[None] * 31, *[(90, 80)] * 20, *[None] * 30]), marks, 25)
    np.testing.assert_allclose(eyes(track), [[90, 80]] * 81, atol=1.5)
    assert len(track.gaps) == 2
    assert (track.gaps[0].first, track.gaps[1].last) == (0, 80)


def test_no_face_at_all(marks: MarkDetector) -> None:
    with pytest.raises(NoFaceError, match=r"No face found in driving\.mp4"):
        track_face(clip([None] * 4), marks, 25, name="driving.mp4")
    with pytest.raises(NoFaceError):
        track_face(iter([]), marks, 25)


GONE = None
RAGGED: list[tuple[float, float] | None] = [
    *[GONE] * 40, (30, 80), *[GONE] * 40, *[(60 + t, 80) for t in range(50)], *[GONE] * 9,
    *[(118 + t, 80) for t in range(5)], *[GONE] * 60, (40, 80), *[GONE] * 40, *[(120, 80 - 0.5 * t) for t in range(60)],
]  # fmt: skip
"""A face that comes late, blinks out, leaves for long and comes back, and two that are there for one frame only."""


@pytest.mark.parametrize("places", [RAGGED, RAGGED[::-1], RAGGED[82:160], [GONE, (50, 80)], [(50, 80)]])
def test_in_stretches_a_track_is_what_it_is_in_one(
    places: list[tuple[float, float] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def followed(stretch: int) -> tuple[list[Stretch], np.ndarray, np.ndarray]:
        monkeypatch.setattr(tracks, "STRETCH", stretch)
        parts = list(follow_face(clip(places), MarkDetector(), 25))
        return parts, np.concatenate([p.landmarks for p in parts]), np.concatenate([p.seen for p in parts])

    whole, landmarks, seen = followed(10_000)
    parts, landmarks_of_parts, seen_of_parts = followed(5)
    assert len(whole) == 1
    assert len(parts) > 1 or len(places) < 60
    np.testing.assert_array_equal(seen_of_parts, seen)
    np.testing.assert_allclose(landmarks_of_parts, landmarks, atol=0.05)
    assert all(len(part.known) for part in parts)


@pytest.mark.parametrize("fps", [1, 2, 10])
def test_slow_clips_come_in_stretches_too(marks: MarkDetector, fps: float) -> None:
    stretches = list(follow_face(clip([(60, 80)] * 40), marks, fps))
    assert len(stretches) == 5
    assert np.concatenate([stretch.seen for stretch in stretches]).all()


def test_a_stretch_comes_before_the_clip_is_over(marks: MarkDetector) -> None:
    read = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal read
        for frame in clip([(60 + t, 80) for t in range(100)]):
            read += 1
            yield frame

    first = next(follow_face(frames(), marks, 25))
    assert len(first.landmarks) == len(first.seen) == len(first.known) - tracks.SMOOTHED_FRAMES
    assert tracks.STRETCH < read == len(first.known) == round(tracks.KNOWN_SECONDS * 25)
    assert first.frame_size == (160, 240)


def test_an_empty_stretch_costs_little(marks: MarkDetector) -> None:
    track_face(clip([(60, 80), *[None] * 200]), marks, 25)
    assert marks.pictures < 900


def test_of_several_people_the_largest_is_followed_even_when_another_grows(marks: MarkDetector) -> None:
    frames = []
    for t in range(30):
        frame = np.zeros((200, 400, 3), np.uint8)
        paint_face(frame, 90 + t, 100, 80, person=1)
        paint_face(frame, 290, 100, 50 + 2 * t)  # larger than the other from frame 16 on
        frames.append(frame)
    track = track_face(frames, marks, 25)
    np.testing.assert_allclose(eyes(track), [(90 + t, 100) for t in range(30)], atol=1.5)


def test_a_person_who_was_lost_is_found_nearest_to_where_they_were(marks: MarkDetector) -> None:
    frames = []
    for t in range(20):
        frame = np.zeros((200, 400, 3), np.uint8)
        paint_face(frame, 320, 100, 60)
        if t not in (8, 9):
            paint_face(frame, 80, 100, 80, person=1)
        frames.append(frame)
    track = track_face(frames, marks, 25)
    np.testing.assert_allclose(eyes(track)[[0, 5, -5, -1]], [[80, 100]] * 4, atol=1.5)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_phone_held_sideways(
    detector: MediapipeDetector, astronaut: np.ndarray, astronaut_face: np.ndarray, turns: int
) -> None:
    """A clip without a word about its rotation: points in pixels of its frames, as good as upright ones."""
    frames = [np.ascontiguousarray(np.rot90(astronaut[:400, 4 * t : 360 + 4 * t], turns)) for t in range(6)]
    track = track_face(frames, detector, 25)
    assert track.seen.all()
    assert track.frame_size == frames[0].shape[:2]
    for t, face in enumerate(track.landmarks):
        assert error(face, turned(astronaut_face - [4 * t, 0], turns, (400, 360))) < 0.05


def test_a_small_face_is_followed_in_large_frames(
    detector: MediapipeDetector, astronaut: np.ndarray, astronaut_face: np.ndarray
) -> None:
    frames = []
    for t in range(4):
        frame = np.full((720, 1280, 3), 90, np.uint8)
        frame[100:612, 700 - 5 * t : 1212 - 5 * t] = astronaut
        frames.append(frame)
    track = track_face(frames, detector, 25)
    assert track.seen.all()
    for t, face in enumerate(track.landmarks):
        assert error(face, astronaut_face + np.array([700 - 5 * t, 100])) < 0.05


def test_after_a_cut_another_face_is_taken(marks: MarkDetector) -> None:
    track = track_face(clip([*[(50, 80)] * 10, *[(190, 80)] * 40]), marks, 25)
    np.testing.assert_allclose(eyes(track)[-20:], [[190, 80]] * 20, atol=1.5)


def test_marks_stand_for_a_face_in_any_rotation(marks: MarkDetector) -> None:
    """The stub itself: what other tests rely on."""
    frame = np.zeros((200, 300, 3), np.uint8)
    paint_face(frame, 100, 80, 90, roll=0.3, closed=1.0)
    assert isinstance(marks, LandmarkDetector)
    (face,) = marks.detect(frame)
    assert roll(face) == pytest.approx(0.3, abs=0.05)
    assert eye_openness(face).max() < 0.05
    for turns in (1, 2, 3):
        (other,) = marks.detect(np.rot90(frame, turns))
        np.testing.assert_allclose(other, turned(face, turns, (200, 300)), atol=1e-3)

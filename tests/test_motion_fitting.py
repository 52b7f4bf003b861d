"""A driver's face through a clip: from landmarks to a motion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from talking_heads.head.eyes import turn_eyes, with_gaze
from talking_heads.head.fit import FrameFit, posed
from talking_heads.head.head import Head
from talking_heads.head.model import Camera, FaceModel, face_model
from talking_heads.head.motion import INDEX, Motion, head_angles, head_rotation
from talking_heads.tracking.crops import Crop
from talking_heads.tracking.motion_fitting import MAX_ERROR, DriverFitter, in_crop, motion_in_pieces, motion_of_track
from talking_heads.tracking.tracks import Stretch, Track

SIZE = (360, 480)
CAMERA = Camera(11.0, (240.0, 170.0))
"""Position in pixels of the frames."""
FPS = 25.0


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_model()


@pytest.fixture(scope="module")
def spoken(model: FaceModel) -> Motion:
    """30 frames of somebody who turns, speaks and blinks."""
    t = np.arange(30)
    rest = Motion.rest(30, FPS)
    coefficients, head = rest.coefficients.copy(), rest.head.copy()
    coefficients[:, INDEX["jawOpen"]] = 0.25 - 0.25 * np.cos(t * 2 * np.pi / 8)
    coefficients[14:17, [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]] = 0.9
    head[:, 0], head[:, 1] = 14 * np.sin(t / 6), 5 * np.sin(t / 4)
    gaze = np.stack([np.column_stack([8 * np.sin(t / 9), np.zeros(30)])] * 2, axis=1).reshape(30, 4)
    return Motion(coefficients, head, gaze, rest.translation, FPS)


def landmarks_of(model: FaceModel, motion: Motion, identity: np.ndarray) -> np.ndarray:
    """(T, L, 2) in pixels of the frames."""
    result = []
    for k in range(len(motion)):
        gaze = motion.gaze[k].reshape(2, 2).astype(float)
        expression = with_gaze(model, motion.coefficients[k, : len(model.expression_names)], gaze)
        frame = FrameFit(expression, head_rotation(motion.head[k]), np.zeros(3), gaze, np.zeros((32, 3)), 0.0)
        shape = turn_eyes(model, model.vertices(identity, expression), gaze)
        result.append(CAMERA.project(posed(shape, frame)[model.landmark_vertices])[:, :2])
    return np.stack(result).astype(np.float32)


@pytest.fixture(scope="module")
def faces(model: FaceModel, spoken: Motion) -> np.ndarray:
    identity = np.random.default_rng(2).normal(0, 0.7, 64).astype(np.float32)
    return landmarks_of(model, spoken, identity)


def track_of(faces: np.ndarray, seen: np.ndarray | None = None) -> Track:
    return Track(faces, FPS, SIZE, np.ones(len(faces), bool) if seen is None else seen)


def changes(motion: Motion) -> np.ndarray:
    return motion.head - motion.head.mean(axis=0)


def test_a_track_becomes_the_motion_that_it_shows(faces: np.ndarray, spoken: Motion) -> None:
    found = motion_of_track(track_of(faces))
    assert (len(found), found.fps) == (30, FPS) and found.seen.all()
    assert np.abs(changes(found) - changes(spoken)).max() < 2  # degrees; who it is is not known
    for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"):
        k = INDEX[name]
        assert np.corrcoef(found.coefficients[:, k], spoken.coefficients[:, k])[0, 1] > 0.95, name
    jaw = INDEX["jawOpen"]
    assert np.ptp(found.coefficients[:, jaw]) == pytest.approx(np.ptp(spoken.coefficients[:, jaw]), abs=0.15)
    opened = spoken.coefficients[:, INDEX["eyeBlinkLeft"]] == 0
    assert np.corrcoef(found.gaze[opened, 0], spoken.gaze[opened, 0])[0, 1] > 0.95
    assert (found.coefficients[:, INDEX["tongueOut"]] == 0).all()


@pytest.mark.parametrize("zoom", [0.5, 3.0])
def test_how_large_a_driver_is_filmed_changes_nothing(faces: np.ndarray, zoom: float) -> None:
    one = motion_of_track(track_of(faces))
    size = (round(SIZE[0] * zoom), round(SIZE[1] * zoom))
    other = motion_of_track(Track(((faces + 0.5) * zoom - 0.5).astype(np.float32), FPS, size, np.ones(30, bool)))
    assert np.abs(one.head - other.head).max() < 0.5
    assert np.abs(one.coefficients - other.coefficients).max() < 0.05
    assert np.abs(one.translation - other.translation).max() < 0.3


def test_where_no_face_was_seen_values_are_marked(faces: np.ndarray) -> None:
    seen = np.ones(30, bool)
    seen[10:15] = False
    held = faces.copy()
    held[10:15] = held[9]
    found = motion_of_track(track_of(held, seen))
    assert np.array_equal(found.seen, seen)
    assert np.abs(np.diff(found.head[9:15], axis=0)).max() < 0.5


def test_a_fit_that_fails_is_held_and_said(faces: np.ndarray) -> None:
    """A detector that sees something else for a few frames does not throw the head about."""
    broken = faces.copy()
    broken[12:15] = np.random.default_rng(0).uniform(0, 300, broken[12:15].shape)
    found = motion_of_track(track_of(broken), DriverFitter.of(faces, SIZE))
    assert not found.seen[12:15].any() and found.seen[:12].all() and found.seen[16:].all()
    for values in (found.head, found.coefficients, found.translation, found.gaze, found.detail):
        # Smoothing leaves a little of what comes before and after.
        assert np.abs(np.diff(values[11:15], axis=0)).max() < 0.05 * np.ptp(values) + 0.05
    whole = motion_of_track(track_of(faces), DriverFitter.of(faces, SIZE))
    assert np.abs(found.head[16:] - whole.head[16:]).max() < 1  # and finds the face again


def test_nothing_but_noise_is_a_motion_that_says_so(faces: np.ndarray) -> None:
    noise = np.random.default_rng(1).uniform(0, 300, faces[:5].shape).astype(np.float32)
    found = motion_of_track(track_of(noise))
    assert len(found) == 5 and np.isfinite(found.head).all()
    assert not found.seen[1:].any()


def test_a_single_frame_is_enough(faces: np.ndarray, spoken: Motion) -> None:
    found = motion_of_track(track_of(faces[:1]))
    assert len(found) == 1 and np.abs(found.head[0] - spoken.head[0]).max() < 6


def stretches(faces: np.ndarray, known: np.ndarray) -> Iterator[Stretch]:
    for first, last in ((0, 8), (8, 16), (16, 30)):
        yield Stretch(faces[first:last], np.ones(last - first, bool), known, SIZE)


def test_a_piece_that_fails_holds_the_piece_before(faces: np.ndarray) -> None:
    broken = faces.copy()
    broken[8:16] = np.random.default_rng(0).uniform(0, 300, broken[8:16].shape)
    pieces = [motion for motion, _ in motion_in_pieces(stretches(broken, faces[:8]), FPS)]
    seen, head = (np.concatenate([getattr(motion, name) for motion in pieces]) for name in ("seen", "head"))
    assert seen[:8].all() and not seen[8:16].any() and seen[16:].all()
    assert np.abs(np.diff(head[:16], axis=0)).max() < 4  # degrees; noise would throw it about
    assert np.abs(np.diff(head[10:14], axis=0)).max() < 0.5


def test_pieces_are_the_whole(faces: np.ndarray) -> None:
    """The driver is fitted at the start alone, and all pieces have one neutral frame."""
    known = faces[:20]
    stretches = [
        Stretch(faces[first:last], np.ones(last - first, bool), known, SIZE)
        for first, last in ((0, 8), (8, 16), (16, 30))
    ]
    pieces = list(motion_in_pieces(iter(stretches), FPS))
    assert sum(len(motion) for motion, _ in pieces) == 30 and len(pieces) > 1
    neutral = pieces[0][1]
    assert all(other is neutral for _, other in pieces)
    whole = motion_of_track(track_of(faces), DriverFitter.of(known, SIZE))
    joined = np.concatenate([motion.head for motion, _ in pieces])
    assert np.abs(joined - whole.head).max() < 0.5
    assert neutral.expression[INDEX["jawOpen"]] < 0.25 and np.abs(head_angles(neutral.rotation)[0]) < 8


def test_people_who_drive_themselves_begin_at_their_photo(head: Head, portrait) -> None:  # type: ignore[no-untyped-def]
    driver = DriverFitter.of_person(head, portrait.crop)
    found, photo = driver.fit(portrait.landmarks), head.primary_view.fit.frame
    assert found.error < MAX_ERROR
    assert np.abs(head_angles(found.rotation) - head_angles(photo.rotation)).max() < 2
    for name in ("jawOpen", "mouthSmileLeft", "eyeBlinkLeft"):
        assert found.expression[INDEX[name]] == pytest.approx(photo.expression[INDEX[name]], abs=0.15), name


def test_sides_of_a_crop() -> None:
    crop = Crop(100.0, 80.0, 50.0)
    points = np.array([[100.0, 80.0], [75.0, 55.0], [125.0, 105.0]])
    np.testing.assert_allclose(in_crop(crop, points), [[0.5, 0.5], [0, 0], [1, 1]], atol=1e-4)

"""One person's motion on another person's face: what must change does, and what makes a face its own does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import close_eyes, mean_face, open_mouth
from hypothesis import given, settings
from hypothesis import strategies as st

from talking_heads.face_pose import MEAN_FACE, Pose, carried, face_scale, fit_pose, lift, rotation_matrix
from talking_heads.landmarks import INNER_LIP, IRISES, NUM_LANDMARKS
from talking_heads.motion import choose_shots, eye_openness, most_neutral, mouth_openness, retarget

ANGLE = st.floats(-0.6, 0.6)
RIGID = [0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45, 71, 72, 73, 74, 75]


def person(seed: int, size: float = 180.0) -> np.ndarray:
    """A face of its own shape, (L, 3) in pixels, symmetric, looking straight ahead."""
    rng = np.random.default_rng(seed)
    stretch = 1 + rng.normal(0, 0.06, 3)
    face = MEAN_FACE * stretch
    face[17:27, 1] += rng.normal(0, 0.02)
    face[48:68] = face[48:68].mean(axis=0) + (face[48:68] - face[48:68].mean(axis=0)) * (1 + rng.normal(0, 0.08))
    eyes = rng.normal(0, 0.15)
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        face[upper, 1] += 0.5 * eyes * (face[upper, 1] - face[lower, 1])
    return (size * face).astype(np.float32)


def seen(shape: np.ndarray, yaw: float = 0, pitch: float = 0, roll: float = 0, scale: float = 1.0) -> np.ndarray:
    """A face (L, 3) in a pose, as landmarks (L, 2) around the middle of 256 px."""
    return Pose(rotation_matrix(yaw, pitch, roll), scale, np.array([128.0, 128.0])).project(shape).astype(np.float32)


def test_carried_points_follow_their_neighbours() -> None:
    face = seen(MEAN_FACE * 180)
    before, between = face[:77], face[77:]
    np.testing.assert_allclose(carried(between, before, before), between, atol=1e-6)
    turn = np.array([[0.9, -0.3], [0.3, 0.9]])
    np.testing.assert_allclose(carried(between, before, before @ turn + [9, -4]), between @ turn + [9, -4], atol=0.02)
    smiling = before.copy()
    smiling[[48, 54]] += [[-6, -4], [6, -4]]
    moved = carried(between, before, smiling)
    distance = np.linalg.norm(between - before[54], axis=1)
    shift = np.linalg.norm(moved - between, axis=1)
    assert shift[distance.argmin()] > 2
    assert shift[distance > 100].max() < 1.5


# --------------------------------------------------------------------------------------------------------------- pose


def test_signs_of_the_angles() -> None:
    """Positive yaw moves the nose to the right of the image, pitch moves it down, roll turns clockwise."""
    still = seen(MEAN_FACE * 180)
    assert seen(MEAN_FACE * 180, yaw=0.3)[30, 0] > still[30, 0] + 10
    assert seen(MEAN_FACE * 180, pitch=0.3)[30, 1] > still[30, 1] + 10
    tilted = seen(MEAN_FACE * 180, roll=0.3)
    assert tilted[45, 1] > tilted[36, 1] + 10  # y runs down: the eye on the right sinks


@given(yaw=st.floats(-1.4, 1.4), pitch=st.floats(-1.4, 1.4), roll=st.floats(-3, 3))
def test_angles_are_those_of_the_rotation(yaw: float, pitch: float, roll: float) -> None:
    rotation = rotation_matrix(yaw, pitch, roll)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert Pose(rotation, 1.0, np.zeros(2)).angles == pytest.approx((yaw, pitch, roll), abs=1e-9)


@given(yaw=ANGLE, pitch=ANGLE, roll=st.floats(-3, 3), scale=st.floats(20, 800), x=st.floats(-500, 500))
def test_a_pose_is_recovered_from_its_projection(yaw: float, pitch: float, roll: float, scale: float, x: float) -> None:
    pose = Pose(rotation_matrix(yaw, pitch, roll), scale, np.array([x, 40.0]))
    got = fit_pose(MEAN_FACE, pose.project(MEAN_FACE))
    assert got.angles == pytest.approx((yaw, pitch, roll), abs=1e-4)
    assert got.scale == pytest.approx(scale, rel=1e-4)
    np.testing.assert_allclose(got.shift, pose.shift, atol=1e-3 * scale)


def test_expression_does_not_move_the_pose() -> None:
    shape = (MEAN_FACE * 180).astype(np.float64)
    face = open_mouth(close_eyes(seen(shape, 0.2, 0.1, 0.1)), 15)
    assert fit_pose(shape, face).angles == pytest.approx((0.2, 0.1, 0.1), abs=1e-6)


@given(yaw=ANGLE, pitch=ANGLE, roll=ANGLE)
@settings(max_examples=30)
def test_size_does_not_depend_on_the_pose(yaw: float, pitch: float, roll: float) -> None:
    assert face_scale(seen(MEAN_FACE * 180, yaw, pitch, roll)) == pytest.approx(180, rel=1e-3)


def test_lifting_adds_depth_and_leaves_the_picture() -> None:
    points = seen(MEAN_FACE * 180, 0.3, -0.1, 0.2)
    lifted = lift(points)
    np.testing.assert_array_equal(lifted[:, :2], points)
    true = 180 * MEAN_FACE @ rotation_matrix(0.3, -0.1, 0.2)[2]
    np.testing.assert_allclose(lifted[:, 2], true, atol=0.5)


# --------------------------------------------------------------------------------------------------------- expression


def test_openness() -> None:
    face = mean_face(180)
    assert 0.2 < eye_openness(face).mean() < 0.4
    assert eye_openness(close_eyes(face)).max() < 0.03
    assert mouth_openness(face) < 0.02
    assert mouth_openness(open_mouth(face, 20)) == pytest.approx(20 / np.ptp(face[[48, 54], 0]), abs=0.03)
    batch = np.stack([face, close_eyes(face)])
    assert eye_openness(batch).shape == (2, 2)
    assert mouth_openness(batch).shape == (2,)


def test_the_most_neutral_frame() -> None:
    shape = person(1)
    neutral = seen(shape)
    others = [seen(shape, yaw=0.3), open_mouth(neutral, 20), close_eyes(neutral), seen(shape, pitch=-0.3)]
    for place in range(5):
        track = np.stack([*others[:place], neutral, *others[place:]])
        assert most_neutral(track) == place


# --------------------------------------------------------------------------------------------------------- retargeting


@settings(max_examples=30, deadline=None)
@given(
    driver=st.integers(0, 99), photo=st.integers(100, 199), yaw=ANGLE, pitch=ANGLE, roll=ANGLE, size=st.floats(40, 600)
)
def test_a_still_driver_leaves_the_photo_as_it_is(
    driver: int, photo: int, yaw: float, pitch: float, roll: float, size: float
) -> None:
    """Whoever drives, in whatever size and place, and however the photo's head is turned."""
    still = seen(person(driver, size)) + np.float32([300, -50])
    own = seen(person(photo), yaw, pitch, roll)
    got = retarget(np.repeat(still[None], 3, axis=0), own)
    assert got.dtype == np.float32
    for face in got:
        np.testing.assert_allclose(face, own, atol=0.1)  # closed lips of a photo may overlap a little


@settings(max_examples=30, deadline=None)
@given(yaw=ANGLE, pitch=ANGLE, roll=ANGLE, zoom=st.floats(0.7, 1.4))
def test_driving_oneself_gives_the_driving_pose(yaw: float, pitch: float, roll: float, zoom: float) -> None:
    """A frontal neutral photo of the driver: the result is the driving clip itself."""
    shape = MEAN_FACE * 180
    clip = np.stack([seen(shape), seen(shape, yaw, pitch, roll, zoom) + np.float32([12, -7])])
    np.testing.assert_allclose(retarget(clip, clip[0], clip[0]), clip, atol=0.6)


def test_no_head_motion_keeps_the_photos_pose() -> None:
    shape = person(3)
    clip = np.stack([seen(shape), seen(shape, 0.4, -0.2, 0.3, 1.2) + 9, open_mouth(seen(shape, -0.3), 12)])
    own = seen(person(4), 0.2, 0.1, -0.1)
    got = retarget(clip, own, clip[0], head=0.0)
    for face in got:
        np.testing.assert_allclose(face[RIGID], own[RIGID], atol=1.5)
    assert mouth_openness(got[2]) > mouth_openness(own) + 0.05  # the expression stays


@pytest.mark.parametrize("amount", [0.5, 1.0])
def test_head_motion_is_scaled(amount: float) -> None:
    shape = MEAN_FACE * 180
    clip = np.stack([seen(shape), seen(shape, 0.4, 0.1, 0.2)])
    got = retarget(clip, clip[0], clip[0], head=amount)[1]
    assert fit_pose(shape, got).angles == pytest.approx((amount * 0.4, amount * 0.1, amount * 0.2), abs=0.02)


def test_nearly_all_of_a_motion_is_nearly_the_whole() -> None:
    """Scaling goes over to the unscaled motion without a jump."""
    shape = person(5)
    clip = np.stack([seen(shape), seen(shape, 0.5, 0.3, 0.4)])
    own = seen(person(6))
    whole, nearly = (retarget(clip, own, clip[0], head=amount) for amount in (1.0, 0.9999))
    np.testing.assert_allclose(nearly, whole, atol=0.05)


def test_no_expression_keeps_the_photos_expression() -> None:
    shape = person(7)
    clip = np.stack([seen(shape), open_mouth(close_eyes(seen(shape)), 15)])
    own = open_mouth(seen(person(8)), 4)
    np.testing.assert_allclose(retarget(clip, own, clip[0], expression=0.0)[1], own, atol=0.5)


@pytest.mark.parametrize("driver", range(4))
def test_the_shape_of_the_face_stays_the_persons(driver: int) -> None:
    """Widths and heights of the face, seen from the front, are the photo's whoever drives."""
    shape = person(driver, size=90 + 60 * driver)
    clip = np.stack([seen(shape), seen(shape, roll=0.2, scale=1.1), open_mouth(seen(shape), 6)])
    own = seen(person(50))
    for face in retarget(clip, own, clip[0]):
        for a, b in ((0, 16), (36, 45), (27, 30), (31, 35), (39, 42), (17, 26)):
            mine, theirs = np.linalg.norm(own[a] - own[b]), np.linalg.norm(face[a] - face[b])
            assert theirs / face_scale(face) == pytest.approx(mine / face_scale(own), rel=0.02)


@pytest.mark.parametrize("driver", range(4))
@pytest.mark.parametrize("yaw", [0.0, 0.3])
@pytest.mark.parametrize("pitch", [-0.5, 0.0, 0.5])
def test_a_blink_closes_the_persons_own_eyes(driver: int, yaw: float, pitch: float) -> None:
    """Also where the photo's head is turned, or the driver looks up or down while blinking."""
    shape = person(driver, size=120)
    there = seen(shape, pitch=pitch)
    clip = np.stack([seen(shape), there, close_eyes(there, 0.5), close_eyes(there)])
    own = seen(person(60), yaw)
    got = retarget(clip, own, clip[0])
    np.testing.assert_allclose(eye_openness(got[0]), eye_openness(own), atol=1e-3)
    opened, half, closed = eye_openness(got[1:]).mean(axis=1)
    assert half == pytest.approx(0.5 * opened, rel=0.15)
    assert closed < 0.12 * opened


def test_the_mouth_opens_by_the_persons_own_measure() -> None:
    neutral = seen(person(1, size=90))
    wide = open_mouth(neutral, 0.25 * np.ptp(neutral[[48, 54], 0]))
    own = seen(person(2))
    got = retarget(np.stack([neutral, wide]), own)
    change = mouth_openness(wide) - mouth_openness(neutral)
    assert mouth_openness(got[1]) - mouth_openness(own) == pytest.approx(change, rel=0.15)


def test_gaze_goes_over_in_eye_widths() -> None:
    neutral = seen(person(1, size=90))
    aside = neutral.copy()
    aside[IRISES, 0] += 0.2 * np.linalg.norm(neutral[39] - neutral[36])
    own = seen(person(2), 0.1, 0.0, 0.1)
    width = float(np.linalg.norm(own[39] - own[36]))
    for gaze in (0.0, 0.5, 1.0):
        moved = np.linalg.norm(retarget(np.stack([neutral, aside]), own, neutral, gaze=gaze)[1, 68] - own[68])
        assert moved == pytest.approx(gaze * 0.2 * width, abs=0.05 * width)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    expression=st.floats(0, 2),
    roll=st.floats(-3, 3),
    jaw=st.floats(-10, 30),
    lids=st.floats(-0.5, 1.5),
)
def test_lids_and_lips_never_cross(seed: int, expression: float, roll: float, jaw: float, lids: float) -> None:
    shape = person(seed)
    clip = seen(shape)[None] + np.random.default_rng(seed).normal(0, 2, (6, NUM_LANDMARKS, 2))
    clip[3:] = open_mouth(close_eyes(clip[3:], lids), jaw)
    own = seen(person(seed + 1), roll=roll)
    for face in retarget(clip, own, seen(shape), expression=expression):
        down = face[8] - face[27]
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65)):
            assert (face[lower] - face[upper]) @ down > -1e-2 * np.linalg.norm(down)


def test_the_input_is_left_alone_and_checked() -> None:
    clip = np.stack([seen(person(1)), close_eyes(seen(person(1)))])
    own = seen(person(2))
    kept = clip.copy(), own.copy()
    retarget(clip, own)
    np.testing.assert_array_equal(clip, kept[0])
    np.testing.assert_array_equal(own, kept[1])
    with pytest.raises(ValueError, match="expected"):
        retarget(clip[0], own)


def test_real_faces_keep_their_parts_together(astronaut_face: np.ndarray) -> None:
    """A mean face drives a real one: the inner lips stay within the outer ones' box."""
    neutral = seen(MEAN_FACE * 100)
    clip = np.stack([neutral, open_mouth(neutral, 8), seen(MEAN_FACE * 100, 0.2, 0.1, -0.2)])
    for face in retarget(clip, astronaut_face, neutral):
        assert np.isfinite(face).all()
        reach = 0.05 * face_scale(face)
        assert (face[INNER_LIP].min(axis=0) > face[48:60].min(axis=0) - reach).all()
        assert (face[INNER_LIP].max(axis=0) < face[48:60].max(axis=0) + reach).all()


# --------------------------------------------------------------------------------------------------------------- shots


def turning(frames: int) -> np.ndarray:
    return np.stack([seen(MEAN_FACE * 180, yaw) for yaw in np.linspace(-0.6, 0.6, frames)])


def weights_of(track: np.ndarray, shots: np.ndarray, fade: int = 9) -> np.ndarray:
    """Weights (T, K), of faces that come back as they went in."""
    faces, weights = zip(*choose_shots(track, shots, fade), strict=True)
    np.testing.assert_array_equal(faces, track)
    return np.stack(weights)


def test_a_fade_has_the_change_in_its_middle_and_looks_ahead_no_further() -> None:
    shots = np.stack([seen(MEAN_FACE * 180, yaw) for yaw in (-0.4, 0.4)])
    track = [shots[0]] * 20 + [shots[1]] * 20
    np.testing.assert_allclose(weights_of(np.stack(track), shots)[14:26, 1], np.clip(np.arange(-1, 11) / 9, 0, 1))
    read = 0

    def faces() -> Iterator[np.ndarray]:
        nonlocal read
        for face in track:
            read += 1
            yield face

    next(choose_shots(faces(), shots))
    assert read == 5


def test_one_photo_is_always_taken() -> None:
    np.testing.assert_array_equal(weights_of(turning(5), turning(1)), np.ones((5, 1)))
    assert list(choose_shots([], turning(1))) == []


def test_the_nearest_photo_is_taken() -> None:
    shots = np.stack([seen(MEAN_FACE * 180, yaw) for yaw in (-0.6, 0.0, 0.6)])
    weights = weights_of(turning(90), shots)
    assert [int(weights[t].argmax()) for t in (0, 45, 89)] == [0, 1, 2]
    assert weights[0, 0] == weights[89, 2] == 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), frames=st.integers(1, 40), count=st.integers(1, 5), fade=st.integers(1, 12))
def test_weights_sum_to_one_and_nothing_pops(seed: int, frames: int, count: int, fade: int) -> None:
    rng = np.random.default_rng(seed)
    track = np.stack([seen(MEAN_FACE * 180, *rng.normal(0, 0.4, 2)) for _ in range(frames)])
    shots = np.stack([seen(MEAN_FACE * 180, *rng.normal(0, 0.4, 2)) for _ in range(count)])
    weights = weights_of(track, shots, fade)
    assert weights.shape == (frames, count)
    assert weights.dtype == np.float32
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.abs(np.diff(weights, axis=0)).max(initial=0) <= 1 / fade + 1e-6


def test_between_two_photos_there_is_no_flicker() -> None:
    """A head that trembles half-way between two photos stays with one of them."""
    shots = np.stack([seen(MEAN_FACE * 180, yaw) for yaw in (-0.3, 0.3)])
    track = np.stack([seen(MEAN_FACE * 180, 0.02 * (-1) ** t) for t in range(40)])
    assert (np.ptp(weights_of(track, shots), axis=0) == 0).all()

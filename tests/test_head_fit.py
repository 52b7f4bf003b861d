"""Fits on heads whose answer is known, and on a real photo."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from talking_heads.head.eyes import GAZE_NAMES, turn_eyes, with_gaze
from talking_heads.head.fit import FrameFit, FrameFitter, face_extent, pose_at_rest, posed
from talking_heads.head.fit_checks import MAX_PHOTO_ERROR, fit_warnings
from talking_heads.head.head import Head
from talking_heads.head.model import Camera, FaceModel, face_model
from talking_heads.head.motion import head_angles, head_rotation
from talking_heads.head.person_fit import NUM_IDENTITY, fit_person
from talking_heads.landmarks import INNER_LIP, NAMED, eye_openness, mouth_openness

CAMERA = Camera(0.036, (0.5, 0.46))
NO_DETAIL = np.zeros((32, 3), np.float32)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_model()


@pytest.fixture(scope="module")
def identity(model: FaceModel) -> np.ndarray:
    """Somebody who is not the mean."""
    weights = np.random.default_rng(3).normal(0, 0.7, NUM_IDENTITY)
    return weights.astype(np.float32)


def frame_fit(
    model: FaceModel,
    angles: tuple[float, float, float] = (0, 0, 0),
    translation: tuple[float, float, float] = (0, 0, 0),
    gaze: tuple[float, float] = (0, 0),
    **coefficients: float,
) -> FrameFit:
    """A frame by its angles in degrees, way in cm, gaze of both eyes in degrees, and coefficients by their names."""
    expression = np.zeros(len(model.expression_names), np.float32)
    for name, value in coefficients.items():
        expression[model.index(name)] = value
    looking = np.array([gaze, gaze], float)
    expression = with_gaze(model, expression, looking)
    return FrameFit(expression, head_rotation(angles), np.array(translation, float), looking, NO_DETAIL, 0.0)


def seen(model: FaceModel, identity: np.ndarray, frame: FrameFit, camera: Camera = CAMERA) -> np.ndarray:
    """The landmarks (L, 2) of a head, in sides of the crop."""
    shape = turn_eyes(model, model.vertices(identity, frame.expression), frame.gaze)
    return camera.project(posed(shape, frame)[model.landmark_vertices])[:, :2].astype(float)


def turn_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees of the rotation that takes one pose to the other."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance of the named points in sizes of the face."""
    return float(np.linalg.norm(found - expected, axis=1)[NAMED].mean() / face_extent(expected))


POSES = {
    "at rest": {},
    "turned": {"angles": (15, 5, -10), "translation": (1, -1, 0)},
    "the other way": {"angles": (-20, -8, 12)},
    "speaking": {"angles": (5, 0, 0), "jawOpen": 0.5, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3},
    "smiling": {"angles": (0, 5, 5), "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5},
    "blinking": {"angles": (-5, 0, 0), "eyeBlinkLeft": 0.9, "eyeBlinkRight": 0.9},
    "winking": {"eyeBlinkLeft": 0.8},
    "looking aside": {"angles": (8, 3, 0), "gaze": (15, 5)},
}


@pytest.mark.parametrize("name", POSES)
def test_a_known_person_is_found_as_posed(model: FaceModel, identity: np.ndarray, name: str) -> None:
    truth = frame_fit(model, **POSES[name])  # type: ignore[arg-type]
    points = seen(model, identity, truth)
    fitter = FrameFitter(model, identity, CAMERA)
    # Lids go with the eyes: where these look is known from the second frame on.
    found = fitter.fit(points, fitter.fit(points, fitter.start(), steps=10))
    assert turn_between(found.rotation, truth.rotation) < 1
    assert np.abs(found.translation[:2] - truth.translation[:2]).max() < 0.3  # cm
    assert error_of(seen(model, identity, found), points) < 0.006
    assert found.error < 0.006
    for muscle in ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight"):
        k = model.index(muscle)
        assert found.expression[k] == pytest.approx(truth.expression[k], abs=0.15), muscle
    if truth.expression[model.index("eyeBlinkLeft")] < 0.5:  # a shut eye shows no iris
        assert np.abs(found.gaze - truth.gaze).max() < 3


@pytest.mark.parametrize("gaze", [(20, 0), (-20, 0), (0, 12), (0, -12)])
def test_gaze_does_not_pull_the_head_along(model: FaceModel, identity: np.ndarray, gaze: tuple[float, float]) -> None:
    fitter = FrameFitter(model, identity, CAMERA)
    points = seen(model, identity, frame_fit(model, gaze=gaze))
    found = fitter.fit(points, fitter.start(), steps=10)
    assert np.abs(found.gaze - gaze).max() < 3
    assert turn_between(found.rotation, np.eye(3)) < 1


def test_three_steps_follow_a_moving_head(model: FaceModel, identity: np.ndarray) -> None:
    """Faster than people turn: 90 degrees a second, and a syllable in three frames."""
    fitter = FrameFitter(model, identity, CAMERA)
    angles = np.column_stack([25 * np.sin(np.arange(40) / 7), 8 * np.sin(np.arange(40) / 5), np.zeros(40)])
    jaw = 0.25 - 0.25 * np.cos(np.arange(40) * 2 * np.pi / 6)
    found = fitter.start()
    for k in range(40):
        truth = frame_fit(model, tuple(angles[k]), jawOpen=jaw[k])
        found = fitter.fit(seen(model, identity, truth), found, steps=3 if k else 10)
        turned = np.hypot(*angles[k, :2])
        assert turn_between(found.rotation, truth.rotation) < (1.0 if turned > 4 else 2.0), k  # small turns are shrunk
        assert found.expression[model.index("jawOpen")] == pytest.approx(jaw[k], abs=0.15), k


def test_the_pose_at_rest_lies_amid_the_others() -> None:
    turned = [head_rotation([yaw, 0, 0]) for yaw in (10.0, 20.0, 30.0)]
    np.testing.assert_allclose(pose_at_rest(turned), turned[1], atol=1e-9)
    np.testing.assert_allclose(pose_at_rest(turned[:1]), turned[0], atol=1e-9)


def test_photos_and_frames_of_a_person_are_turned_alike(model: FaceModel, identity: np.ndarray) -> None:
    """A frame that is one of the photos is found as that photo, whatever is taken for noise."""
    poses = [frame_fit(model, angles) for angles in ((0, 0, 0), (1.5, 1.0, 0), (-6, 3, 0))]
    points = [seen(model, identity, pose) for pose in poses]
    person = fit_person(model, points)
    rest = pose_at_rest([photo.frame.rotation for photo in person.photos])
    for photo, place in zip(person.photos, points, strict=True):
        fitter = FrameFitter(model, person.identity_coefficients, photo.camera, rest=rest)
        found = fitter.fit(place, photo.frame, steps=10)
        assert turn_between(found.rotation, photo.frame.rotation) < 0.4


def test_a_small_turn_from_rest_is_taken_for_noise_and_a_large_one_for_real(
    model: FaceModel, identity: np.ndarray
) -> None:
    def turned(axis: int, degrees: float, rest: float = 0.0) -> float:
        """Degrees about an axis that are found, from a rest that is turned aside."""
        angles = np.zeros(3)
        angles[axis] = degrees
        start = head_rotation([rest, 0, 0])
        fitter = FrameFitter(model, identity, CAMERA, rest=start)
        truth = replace(frame_fit(model), rotation=head_rotation(angles) @ start)
        found = fitter.fit(seen(model, identity, truth), replace(fitter.start(), rotation=start), steps=12)
        return float(head_angles(found.rotation @ start.T)[axis])

    for axis in (0, 1):  # aside, and up and down
        for rest in (0.0, 20.0):
            assert 0 < turned(axis, 1.0, rest) < 0.7
            assert turned(axis, 10.0, rest) == pytest.approx(10.0, abs=0.7)
    assert turned(2, 1.0) == pytest.approx(1.0, abs=0.1)  # eyes tell how far a head is tilted


def test_muscles_pull_and_do_not_push(model: FaceModel, identity: np.ndarray) -> None:
    """Whatever the points are, coefficients stay in 0..1, and nothing is infinite."""
    rng = np.random.default_rng(0)
    fitter = FrameFitter(model, identity, CAMERA)
    points = seen(model, identity, frame_fit(model, jawOpen=1.0, mouthSmileLeft=1.0, browInnerUp=1.0))
    for noise in (0.0, 0.01, 0.05):
        moved = points + rng.normal(0, noise, points.shape)
        found = fitter.fit(moved, fitter.start(), steps=8)
        assert found.expression.min() >= 0 and found.expression.max() <= 1
        assert np.isfinite(found.translation).all() and np.isfinite(found.gaze).all()
        (photo,) = fit_person(model, [moved]).photos
        assert photo.frame.expression.min() >= 0 and photo.frame.expression.max() <= 1


def test_detail_is_what_is_left_at_lids_and_lips(model: FaceModel, identity: np.ndarray) -> None:
    fitter = FrameFitter(model, identity, CAMERA)
    points = seen(model, identity, frame_fit(model))
    exact = fitter.fit(points, fitter.start(), steps=8)
    assert np.abs(exact.detail).max() < 0.1  # cm
    pulled = points.copy()
    pulled[51] += [0, -0.02]  # one point of the upper lip, which no muscle moves alone
    found = fitter.fit(pulled, fitter.start(), steps=8)
    assert found.detail.shape == (32, 3)
    assert found.detail[12 + 3, 1] > 0.2  # upwards, and the most of all
    assert np.abs(found.detail[:, 1]).argmax() == 12 + 3


# ------------------------------------------------------------------------------------------------------------- person


def test_several_photos_share_one_identity_and_pose_for_themselves(model: FaceModel, identity: np.ndarray) -> None:
    poses = [
        frame_fit(model),
        frame_fit(model, (22, 0, 0), jawOpen=0.3),
        frame_fit(model, (-22, 6, 8), mouthSmileLeft=0.5, mouthSmileRight=0.5),
        frame_fit(model, (0, -10, -12), eyeBlinkLeft=0.8, eyeBlinkRight=0.8),
    ]
    cameras = [Camera(0.03 + 0.004 * k, (0.45 + 0.03 * k, 0.5)) for k in range(4)]
    points = [seen(model, identity, pose, camera) for pose, camera in zip(poses, cameras, strict=True)]
    person = fit_person(model, points)
    assert person.identity_coefficients.shape == (NUM_IDENTITY,)
    assert len(person.photos) == 4
    for photo, pose, camera, expected in zip(person.photos, poses, cameras, points, strict=True):
        assert turn_between(photo.frame.rotation, pose.rotation) < 3  # whose nose is how long is guessed as well
        nearness = 1 - photo.frame.translation[2] / photo.camera.distance  # all have one camera, and their own distance
        assert photo.camera.scale / nearness == pytest.approx(camera.scale, rel=0.08)
        assert error_of(seen(model, person.identity_coefficients, photo.frame, photo.camera), expected) < 0.008
        assert photo.frame.error < 0.008
    one = fit_person(model, points[:1]).identity_coefficients
    true_shape, joint_shape, single_shape = (
        model.vertices(weights)[model.part == "face"] for weights in (identity, person.identity_coefficients, one)
    )

    def off(shape: np.ndarray) -> float:
        """Mean distance in cm, once sizes agree: one photo does not tell how large a face is."""
        centred, true = shape - shape.mean(axis=0), true_shape - true_shape.mean(axis=0)
        scale = float((centred * true).sum() / (centred * centred).sum())
        return float(np.linalg.norm(scale * centred - true, axis=1).mean())

    assert off(joint_shape) < off(single_shape)
    assert off(joint_shape) < off(model.mean[model.part == "face"])


def test_a_person_does_not_depend_on_the_order_of_the_photos(model: FaceModel, identity: np.ndarray) -> None:
    points = [seen(model, identity, frame_fit(model, angles)) for angles in ((0, 0, 0), (15, 0, 0), (-10, 5, 0))]
    first = fit_person(model, points).identity_coefficients
    np.testing.assert_allclose(fit_person(model, points[::-1]).identity_coefficients, first, atol=1e-3)


@pytest.mark.parametrize(("zoom", "shift"), [(0.4, (0.1, 0.3)), (1.6, (-0.2, -0.1)), (1.0, (0.3, 0.0))])
def test_how_large_and_where_a_face_is_changes_nothing(
    model: FaceModel, identity: np.ndarray, zoom: float, shift: tuple[float, float]
) -> None:
    points = [seen(model, identity, frame_fit(model, (10, -5, 3), jawOpen=0.2))]
    expected = fit_person(model, points)
    found = fit_person(model, [zoom * points[0] + shift])
    np.testing.assert_allclose(found.identity_coefficients, expected.identity_coefficients, atol=1e-3)
    (one,), (two,) = expected.photos, found.photos
    assert two.camera.scale == pytest.approx(zoom * one.camera.scale, rel=1e-3)
    assert turn_between(one.frame.rotation, two.frame.rotation) < 0.1
    np.testing.assert_allclose(two.frame.expression, one.frame.expression, atol=1e-3)
    np.testing.assert_allclose(two.frame.gaze, one.frame.gaze, atol=0.1)


def test_a_face_on_its_side_and_on_its_head(model: FaceModel, identity: np.ndarray) -> None:
    for roll in (90, 180, -120):
        (photo,) = fit_person(model, [seen(model, identity, frame_fit(model, (0, 0, roll)))]).photos
        assert abs((head_angles(photo.frame.rotation)[2] - roll + 180) % 360 - 180) < 3
        assert photo.frame.error < 0.008


# ------------------------------------------------------------------------------------------------------- a real photo


def test_a_real_photo_is_fitted_closely(head: Head, shots) -> None:  # type: ignore[no-untyped-def]
    view = head.primary_view
    points = shots.landmarks[0]
    assert view.fit.frame.error < 0.6 * MAX_PHOTO_ERROR
    assert fit_warnings(head) == []
    smile = [view.fit.frame.expression[head.model.index(f"mouthSmile{side}")] for side in ("Left", "Right")]
    assert min(smile) > 0.3  # she smiles
    assert view.fit.frame.expression[head.model.index("eyeBlinkLeft")] < 0.5
    # With its offset the photo's own lids and lips are met.
    shape = head.model.vertices(head.identity_coefficients, view.fit.frame.expression) + view.fit.offset
    found = view.fit.camera.project(posed(shape, view.fit.frame)[head.model.landmark_vertices])[:, :2]
    np.testing.assert_allclose(mouth_openness(found), mouth_openness(points), atol=0.03)
    np.testing.assert_allclose(eye_openness(found), eye_openness(points), atol=0.04)
    inner = np.linalg.norm(found - points, axis=1)[INNER_LIP].mean() / face_extent(points)
    assert inner < 0.01


def test_a_face_that_is_none_is_said_to_be_hard(head: Head, model: FaceModel, shots) -> None:  # type: ignore[no-untyped-def]
    """A warning with the photo's number, and a head nevertheless."""
    noise = np.random.default_rng(0).normal(0, 0.05, shots.landmarks[0].shape)
    wrong = (shots.landmarks[0] + noise).astype(np.float32)
    canvases, masks = [shots.canvases[0]] * 2, [shots.masks[0]] * 2
    landmarks = [shots.landmarks[0], wrong]
    hard = Head.of(model, fit_person(model, landmarks), canvases, masks, landmarks, analysis=256)
    (sentence,) = [one for one in fit_warnings(hard) if one.startswith("Photo 2")]
    assert "hard to follow" in sentence and sentence.endswith(".")


def test_gaze_coefficients_follow_the_angles(model: FaceModel) -> None:
    zeros = np.zeros(len(model.expression_names), np.float32)
    for (side, down), names in {
        (25, 0): {"eyeLookOutLeft", "eyeLookInRight"},
        (-25, 0): {"eyeLookInLeft", "eyeLookOutRight"},
        (0, 20): {"eyeLookDownLeft", "eyeLookDownRight"},
        (0, -20): {"eyeLookUpLeft", "eyeLookUpRight"},
    }.items():
        raised = with_gaze(model, zeros, np.array([[side, down]] * 2, float))
        assert {model.expression_names[k] for k in np.flatnonzero(raised > 0.5)} == names
        assert set(names) <= set(GAZE_NAMES)
    for eye, angles in itertools.product((0, 1), ((30.0, 0.0), (0.0, 20.0))):
        gaze = np.zeros((2, 2))
        gaze[eye] = angles
        moved = turn_eyes(model, model.mean, gaze) - model.mean
        iris = moved[model.landmark_vertices[69 - eye]]  # the left eye's iris is the second one
        assert (iris[0] > 0.2, iris[1] < -0.15) == (angles[0] > 0, angles[1] > 0)
        assert not moved[~(model.part == ("eyeball_left", "eyeball_right")[eye])].any()

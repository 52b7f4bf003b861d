"""Retargeting: what of a person's motion is carried over to another's face, how strongly, and what never is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from talking_heads.head.eyes import turn_eyes, with_gaze
from talking_heads.head.fit import FrameFit, FrameFitter, posed
from talking_heads.head.head import Head
from talking_heads.head.model import Camera, FaceModel, face_model
from talking_heads.head.motion import INDEX, PARTS, Motion, head_angles, head_rotation
from talking_heads.head.presets import load_preset
from talking_heads.head.retarget import (
    MODES,
    TOUCHING,
    MotionOptions,
    Retargeter,
    frame_of,
    frames_of,
    lips_apart,
    most_neutral,
    motion_of,
    retargeted,
    with_closed_lips,
)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_model()


def frame_fit(
    model: FaceModel,
    angles: tuple[float, float, float] = (0, 0, 0),
    translation: tuple[float, float, float] = (0, 0, 0),
    gaze: tuple[float, float] = (0, 0),
    detail: float = 0.0,
    **coefficients: float,
) -> FrameFit:
    expression = np.zeros(len(model.expression_names), np.float32)
    for name, value in coefficients.items():
        expression[model.index(name)] = value
    looking = np.array([gaze, gaze], float)
    return FrameFit(
        with_gaze(model, expression, looking), head_rotation(angles), np.array(translation, float), looking,
        np.full((32, 3), detail, np.float32), 0.0,
    )  # fmt: skip


def value(model: FaceModel, frame: FrameFit, name: str) -> float:
    return float(frame.expression[model.index(name)])


def same(a: FrameFit, b: FrameFit, tolerance: float = 1e-6) -> None:
    for name in ("expression", "rotation", "translation", "gaze", "detail"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tolerance, err_msg=name)


PHOTO = {"angles": (5, -3, 2), "translation": (0.5, 0, 1), "gaze": (4, 2), "mouthSmileLeft": 0.3, "jawOpen": 0.1}
NEUTRAL = {"angles": (-8, 4, 1), "translation": (3, 1, -2), "gaze": (-3, 1), "jawOpen": 0.05, "browInnerUp": 0.2}
SPEAKING = {
    "angles": (6, 10, -5), "translation": (4, 0, 1), "gaze": (7, -4), "detail": 0.05, "jawOpen": 0.5,
    "browInnerUp": 0.6, "mouthPucker": 0.4, "eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5,
}  # fmt: skip


@pytest.fixture
def photo(model: FaceModel) -> FrameFit:
    return replace(frame_fit(model, **PHOTO), detail=np.zeros((32, 3), np.float32))  # type: ignore[arg-type]


@pytest.fixture
def neutral(model: FaceModel) -> FrameFit:
    return frame_fit(model, **NEUTRAL)  # type: ignore[arg-type]


@pytest.fixture
def speaking(model: FaceModel) -> FrameFit:
    return frame_fit(model, **SPEAKING)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- relative


def test_a_driver_at_rest_leaves_the_photo(model: FaceModel, photo: FrameFit, neutral: FrameFit) -> None:
    same(Retargeter(model, photo, neutral, MotionOptions())(neutral), photo)


def test_who_drives_oneself_from_the_photo_does_what_one_does(
    model: FaceModel, photo: FrameFit, speaking: FrameFit
) -> None:
    same(Retargeter(model, photo, photo, MotionOptions())(speaking), speaking)


def test_changes_are_added_to_what_the_photo_shows(
    model: FaceModel, photo: FrameFit, neutral: FrameFit, speaking: FrameFit
) -> None:
    moved = Retargeter(model, photo, neutral, MotionOptions())(speaking)
    assert value(model, moved, "jawOpen") == pytest.approx(0.1 + 0.45)
    assert value(model, moved, "mouthPucker") == pytest.approx(0.4)
    assert value(model, moved, "mouthSmileLeft") == pytest.approx(0.3)  # the photo's own smile stays
    np.testing.assert_allclose(moved.rotation, speaking.rotation @ neutral.rotation.T @ photo.rotation, atol=1e-9)
    np.testing.assert_allclose(moved.translation, [1.5, -1, 4], atol=1e-9)
    np.testing.assert_allclose(moved.gaze, [[14, -3]] * 2, atol=1e-9)
    assert moved.expression.min() >= 0 and moved.expression.max() <= 1
    assert moved.detail.max() == pytest.approx(0.05)


def test_strengths_of_nought_leave_the_photo(
    model: FaceModel, photo: FrameFit, neutral: FrameFit, speaking: FrameFit
) -> None:
    for mode in MODES:
        options = MotionOptions(mode, head=0, expression=0, gaze=0)
        same(Retargeter(model, photo, neutral, options)(speaking), photo)
    # Each for itself.
    for name, fields in {"head": ("rotation", "translation"), "gaze": ("gaze",), "expression": ("detail",)}.items():
        moved = Retargeter(model, photo, neutral, MotionOptions(**{name: 0.0}))(speaking)
        for field in ("rotation", "translation", "gaze", "detail"):
            kept = np.allclose(getattr(moved, field), getattr(photo, field))
            assert kept == (field in fields), (name, field)
        assert (value(model, moved, "jawOpen") == pytest.approx(0.1)) == (name == "expression")


@pytest.mark.parametrize("strength", [0.5, 1.5, 2.0])
def test_strengths_scale_angles_and_coefficients(model: FaceModel, strength: float) -> None:
    rest = frame_fit(model)
    driver = frame_fit(model, (10, 0, 0), (1, 2, 0), (6, 3), jawOpen=0.3)
    options = MotionOptions(head=strength, expression=strength, gaze=strength)
    moved = Retargeter(model, rest, rest, options)(driver)
    np.testing.assert_allclose(head_angles(moved.rotation), [10 * strength, 0, 0], atol=1e-6)
    np.testing.assert_allclose(moved.translation, [strength, 2 * strength, 0])
    np.testing.assert_allclose(moved.gaze, [[6 * strength, 3 * strength]] * 2)
    assert value(model, moved, "jawOpen") == pytest.approx(0.3 * strength, abs=1e-6)


def test_parts_move_alone(model: FaceModel, photo: FrameFit, neutral: FrameFit, speaking: FrameFit) -> None:
    for part, names in PARTS.items():
        moved = Retargeter(model, photo, neutral, MotionOptions(parts=(part,)))(speaking)
        for field in ("rotation", "translation"):
            assert np.allclose(getattr(moved, field), getattr(photo, field)) == (part != "head"), (part, field)
        assert np.allclose(moved.gaze, photo.gaze) == ("gaze" not in names), part
        changed = {
            model.expression_names[k] for k in np.flatnonzero(np.abs(moved.expression - photo.expression) > 1e-4)
        }
        looks = {name for name in changed if name.startswith("eyeLook")}
        assert changed - looks <= set(names), part
        assert not looks or "gaze" in names
        lids, lips = moved.detail[:12].any(), moved.detail[12:].any()
        assert lids == ("eyeBlinkLeft" in names) and lips == ("jawOpen" in names), part
    both = Retargeter(model, photo, neutral, MotionOptions(parts=("lips", "head")))(speaking)
    assert value(model, both, "jawOpen") > 0.4 and not np.allclose(both.rotation, photo.rotation)
    assert value(model, both, "browInnerUp") == value(model, photo, "browInnerUp")


@pytest.mark.parametrize("rest_of_photo", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("rest_of_driver", [0.0, 0.2, 0.5])
def test_a_lid_that_shuts_shuts(model: FaceModel, rest_of_photo: float, rest_of_driver: float) -> None:
    """However far either has the eyes open at rest; and a driver's rest is the photo's."""

    def eyes(blink: float) -> FrameFit:
        return frame_fit(model, eyeBlinkLeft=blink, eyeBlinkRight=blink)

    retarget = Retargeter(model, eyes(rest_of_photo), eyes(rest_of_driver), MotionOptions())
    blinks = [value(model, retarget(eyes(blink)), "eyeBlinkLeft") for blink in np.linspace(0, 1, 21)]
    assert blinks[-1] == pytest.approx(1)
    assert (np.diff(blinks) >= -1e-6).all()  # further down is further down
    assert value(model, retarget(eyes(rest_of_driver)), "eyeBlinkRight") == pytest.approx(rest_of_photo, abs=1e-6)
    wink = retarget(frame_fit(model, eyeBlinkLeft=1.0, eyeBlinkRight=rest_of_driver))
    assert value(model, wink, "eyeBlinkLeft") == pytest.approx(1)
    assert value(model, wink, "eyeBlinkRight") == pytest.approx(rest_of_photo, abs=1e-6)


# ----------------------------------------------------------------------------------------------------------- absolute


def test_absolute_motion_is_the_drivers_own(
    model: FaceModel, photo: FrameFit, neutral: FrameFit, speaking: FrameFit
) -> None:
    options = MotionOptions("absolute")
    moved = Retargeter(model, photo, neutral, options)(speaking)
    same(moved, speaking)
    same(Retargeter(model, photo, photo, options)(speaking), moved)  # the neutral frame does not matter
    half = Retargeter(model, photo, neutral, MotionOptions("absolute", head=0.5))(speaking)
    np.testing.assert_allclose(half.translation, 0.5 * (photo.translation + speaking.translation))
    lips = Retargeter(model, photo, neutral, MotionOptions("absolute", parts=("lips",)))(speaking)
    assert value(model, lips, "jawOpen") == pytest.approx(0.5)
    np.testing.assert_array_equal(lips.rotation, photo.rotation)


# ------------------------------------------------------------------------------------------------------------ identity


def test_identity_does_not_leak(model: FaceModel, head: Head) -> None:
    """Two drivers who look nothing alike and do the same move the person alike, though all that is seen is points."""
    rng = np.random.default_rng(5)
    camera = Camera(0.036, (0.5, 0.46))
    photo = head.primary_view.fit.frame
    results = []
    for _ in range(2):
        identity = rng.normal(0, 0.8, 64).astype(np.float32)
        fitter = FrameFitter(model, identity, camera)

        def followed(frame: FrameFit, identity: np.ndarray = identity, fitter: FrameFitter = fitter) -> FrameFit:
            shape = turn_eyes(model, model.vertices(identity, frame.expression), frame.gaze)
            points = camera.project(posed(shape, frame)[model.landmark_vertices])[:, :2].astype(float)
            return fitter.fit(points, fitter.fit(points, fitter.start(), 10))

        neutral = followed(frame_fit(model))
        moved = followed(frame_fit(model, (12, 4, -3), gaze=(8, 0), jawOpen=0.5, mouthLowerDownLeft=0.2))
        results.append(Retargeter(model, photo, neutral, MotionOptions())(moved))
    one, two = results
    assert np.abs(one.expression - two.expression).max() < 0.15
    assert np.abs(head_angles(one.rotation) - head_angles(two.rotation)).max() < 1.5
    assert np.abs(one.gaze - two.gaze).max() < 3
    places = []
    for frame in results:
        shape = model.vertices(head.identity_coefficients, frame.expression)
        places.append(posed(shape, frame)[model.landmark_vertices[:68]])
    assert np.linalg.norm(places[0] - places[1], axis=1).mean() < 0.1  # cm


# ---------------------------------------------------------------------------------------------------- frames and clips


def test_a_motion_is_its_frames(model: FaceModel, neutral: FrameFit, speaking: FrameFit) -> None:
    frames = [neutral, speaking, neutral]
    seen = np.array([True, False, True])
    motion = motion_of(frames, 30.0, seen)
    assert (len(motion), motion.fps) == (3, 30.0) and np.array_equal(motion.seen, seen)
    for frame, again in zip(frames, frames_of(motion, len(model.expression_names)), strict=True):
        same(frame, again, 1e-4)
    assert motion_of(frames, 30.0).seen.all()


def test_the_most_neutral_frame(model: FaceModel) -> None:
    frames = [
        frame_fit(model, (20, 0, 0)),
        frame_fit(model, jawOpen=0.6),
        frame_fit(model, eyeBlinkLeft=0.9, eyeBlinkRight=0.9),
        frame_fit(model, (2, 1, 15), gaze=(3, 0)),
        frame_fit(model, mouthSmileLeft=0.8, mouthSmileRight=0.8),
        frame_fit(model),
    ]
    assert most_neutral(motion_of(frames[:-1], 25.0)) == 3  # roll is no matter
    seen = np.ones(6, bool)
    assert most_neutral(motion_of(frames, 25.0)) == 5
    seen[5] = False
    assert most_neutral(motion_of(frames, 25.0, seen)) == 3
    assert most_neutral(motion_of(frames, 25.0, np.zeros(6, bool))) == 5


def test_frames_of_nought_are_a_rest(model: FaceModel) -> None:
    pressed = frame_fit(model, mouthPressLeft=0.5, mouthPressRight=0.5, mouthRollLower=0.3)
    assert most_neutral(motion_of([frame_fit(model, jawOpen=0.2), pressed, frame_fit(model), pressed], 25.0)) == 2


def test_lips_of_a_laugh_meet_when_those_of_a_voice_do(head: Head) -> None:
    """The photo shows teeth. A motion of which changes are counted from parted lips closes them, and opens them."""
    model, view = head.model, head.primary_view
    upper, lower = (model.landmark_vertices[points] for points in ([61, 62, 63], [67, 66, 65]))

    def gap(frame: FrameFit) -> float:
        change = frame.expression - view.fit.frame.expression  # the photo's shape has the photo's expression
        shape = view.rest + np.tensordot(change, model.expression_basis, axes=1)
        return float((shape[upper, 1] - shape[lower, 1]).mean())

    def opened(jaw: float, neutral: FrameFit) -> float:
        retargeter = Retargeter(model, view.fit.frame, neutral, MotionOptions())
        return gap(retargeter(frame_fit(model, jawOpen=jaw)))

    count = len(model.expression_names)
    plain, parted = frame_of(Motion.rest(1, 25), 0, count), frame_of(lips_apart(head), 0, count)
    shown = gap(view.fit.frame)
    assert shown > 0.25 and opened(0, plain) == pytest.approx(shown, abs=1e-3)
    assert opened(0, parted) == pytest.approx(TOUCHING, abs=0.06)
    assert opened(0.3, parted) - opened(0, parted) == pytest.approx(opened(0.3, plain) - shown, abs=0.02)


def test_a_preset_is_added_to_the_photo(head: Head) -> None:
    motion = load_preset("nod")
    rest = frame_of(Motion.rest(1, 25), 0, len(head.model.expression_names))
    photo = head.primary_view.fit.frame
    frames = list(
        retargeted(
            head, ((frame, rest) for frame in frames_of(motion, len(head.model.expression_names))), MotionOptions()
        )
    )
    assert len(frames) == len(motion)
    same(frames[0], photo, 1e-4)
    same(frames[-1], photo, 1e-4)
    pitches = [head_angles(frame.rotation @ photo.rotation.T)[1] for frame in frames]
    assert max(pitches) == pytest.approx(motion.head[:, 1].max(), abs=0.1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "sideways"}, "relative, absolute"),
        ({"parts": ("ears",)}, "lips"),
        ({"head": -1.0}, "head must lie between"),
        ({"gaze": float("nan")}, "gaze must lie between"),
        ({"expression": 5.0}, "expression must lie between"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MotionOptions(**options)


# ------------------------------------------------------------------------------------------------- lips that shall meet


def laughing(head: Head) -> Head:
    """The same person, whose photo shows a mouth wide open."""
    view = head.primary_view
    change = np.zeros(len(head.model.expression_names), np.float32)
    change[head.model.index("jawOpen")] = 0.35
    frame = replace(view.fit.frame, expression=view.fit.frame.expression + change)
    rest = view.rest + np.tensordot(change, head.model.expression_basis, axes=1)
    laughing_view = replace(view, rest=rest, fit=replace(view.fit, frame=frame))
    return replace(head, views=(laughing_view,), primary=0)


def lip_gap(head: Head, frame: FrameFit) -> float:
    """cm between the inner lips of the posed person."""
    change = frame.expression - head.primary_view.fit.frame.expression
    shape = head.primary_view.rest + np.tensordot(change, head.model.expression_basis, axes=1)
    upper, lower = (shape[head.model.landmark_vertices[points], 1] for points in ([61, 62, 63], [67, 66, 65]))
    return float((upper - lower).mean())


def test_a_laugh_closes_where_the_drivers_lips_do(head: Head) -> None:
    person = laughing(head)
    shown = person.primary_view.fit.frame
    assert lip_gap(person, shown) > 0.8
    driver = Motion.rest(2, 25)
    driver.coefficients[:, INDEX["browInnerUp"]] = 0.1  # filmed: never all zero
    driver.coefficients[1, INDEX["jawOpen"]] = 0.3
    count = len(person.model.expression_names)
    closed, opened = (frame_of(driver, k, count) for k in range(2))
    for options, gaps in ((MotionOptions(closed_lips=True), (0.0, 0.6)), (MotionOptions(), (2.05, 2.6))):
        first, second = retargeted(person, [(closed, closed), (opened, closed)], options)
        assert lip_gap(person, first) == pytest.approx(gaps[0], abs=0.25)
        assert lip_gap(person, second) > gaps[1]
    # A driver whose own lips are never closed closes none, nor does one who is followed as he is.
    (kept,) = retargeted(person, [(opened, opened)], MotionOptions(closed_lips=True))
    assert lip_gap(person, kept) == pytest.approx(lip_gap(person, shown), abs=0.15)


def test_closed_lips_in_the_photo_stay_as_they_are(head: Head) -> None:
    frame = frame_of(Motion.rest(1, 25), 0, len(head.model.expression_names))
    if lip_gap(head, head.primary_view.fit.frame) < 0:
        assert with_closed_lips(head, frame) is frame


def lips(frame: FrameFit) -> tuple[float, float]:
    """Heights of the inner lips in residuals: upper, lower."""
    return float(frame.detail[12 + 13 : 12 + 16, 1].mean()), float(frame.detail[12 + 17 : 12 + 20, 1].mean())


def test_lips_that_residuals_part_are_parted_by_the_jaw(model: FaceModel, photo: FrameFit) -> None:
    """A driver at rest whom the fit sees with an open jaw and lips that residuals close, and who opens the mouth."""
    rest = frame_fit(model, jawOpen=0.35)
    rest.detail[12 + 13 : 12 + 16, 1], rest.detail[12 + 17 : 12 + 20, 1] = -0.2, 0.3  # cm
    speaking = frame_fit(model, jawOpen=0.4)
    moved = Retargeter(model, photo, rest, MotionOptions())(speaking)
    fall = model.expression_basis[model.index("jawOpen")][model.landmark_vertices[[61, 62, 63, 67, 66, 65]], 1]
    gap_by_jaw = fall[:3].mean() - fall[3:].mean()
    assert value(model, moved, "jawOpen") == pytest.approx(0.1 + 0.05 + 0.5 / gap_by_jaw, abs=1e-3)
    upper, lower = lips(moved)
    assert upper == pytest.approx(lower, abs=1e-3)  # the jaw has taken all of it
    assert not moved.detail[:12].any()
    # The other way round a jaw closes, as far as it may.
    closing = Retargeter(model, photo, speaking, MotionOptions())(rest)
    assert value(model, closing, "jawOpen") == pytest.approx(0.1 - 0.05 - 0.5 / gap_by_jaw, abs=1e-3)
    pressed = replace(rest, detail=5 * rest.detail)
    least = Retargeter(model, photo, speaking, MotionOptions())(pressed)
    upper, lower = lips(least)
    assert value(model, least, "jawOpen") == pytest.approx(-0.6)
    left = 0.1 - 0.05 - 2.5 / gap_by_jaw + 0.6  # of the jaw's way, which residuals keep
    assert upper - lower == pytest.approx(left * gap_by_jaw, abs=1e-3)


def test_a_jaw_that_is_not_carried_over_takes_no_residuals(model: FaceModel, photo: FrameFit) -> None:
    rest, speaking = frame_fit(model), frame_fit(model)
    speaking.detail[12 + 17 : 12 + 20, 1] = -0.5
    moved = Retargeter(model, photo, rest, MotionOptions(parts=("eyes",)))(speaking)
    assert value(model, moved, "jawOpen") == value(model, photo, "jawOpen") and not moved.detail[12:].any()
    absolute = Retargeter(model, photo, rest, MotionOptions("absolute"))(speaking)
    np.testing.assert_array_equal(absolute.detail, speaking.detail)

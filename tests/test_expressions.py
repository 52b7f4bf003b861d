"""Controls of a face: what each moves, what it leaves alone, and where its numbers come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_motion import person, seen
from typer.testing import CliRunner

from talking_heads.expressions import DISPLACEMENTS, RANGES, FaceControls, mean_face, posed
from talking_heads.face_pose import MEAN_FACE, RIGID, face_scale, fit_pose
from talking_heads.landmarks import (
    INNER_LIP,
    LEFT_BROW,
    LEFT_EYE,
    LOWER_LIDS,
    MIRROR,
    RIGHT_BROW,
    RIGHT_EYE,
    UPPER_LIDS,
    mirror_landmarks,
)
from talking_heads.motion import eye_openness, mouth_openness

FACE_MODEL = Path(__file__).parents[2] / "shared" / "data" / "face_model" / "ict_facekit.npz"
MIRRORED = ("yaw", "roll", "gaze_x")
ANGLES = ("yaw", "pitch", "roll")
EXPRESSIONS = [(name, value) for name in RANGES if name not in ANGLES for value in RANGES[name] if value]


@pytest.fixture(params=["mean", "other", "turned", "real"])
def photo(request: pytest.FixtureRequest, astronaut_face: np.ndarray) -> np.ndarray:
    """The mean face, somebody else's, that one turned aside, and a real one with an open smile."""
    return {
        "mean": seen(MEAN_FACE * 180),
        "other": seen(person(1)),
        "turned": seen(person(2), 0.25, 0.1, 0.05),
        "real": astronaut_face,
    }[request.param]


# ------------------------------------------------------------------------------------------------------------ controls


@pytest.mark.parametrize("name", RANGES)
def test_values_out_of_range_are_refused_by_name(name: str) -> None:
    low, high = RANGES[name]
    for value in (low, 0, high):
        assert getattr(FaceControls(**{name: value}), name) == value
    for value in (low - 0.01, high + 0.01, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"{name} must lie between {low} and {high}"):
            FaceControls(**{name: value})


def test_zero_gives_the_photo_back(photo: np.ndarray) -> None:
    got = posed(photo, FaceControls())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, photo, atol=0.05)


@pytest.mark.parametrize(("name", "value"), EXPRESSIONS)
def test_expressions_leave_the_head_where_it_is(photo: np.ndarray, name: str, value: float) -> None:
    moved = posed(photo, FaceControls(**{name: value}))
    np.testing.assert_allclose(moved[RIGID], photo[RIGID], atol=1e-3 * face_scale(photo))
    assert np.abs(moved - photo).max() > 0.005 * face_scale(photo)


@pytest.mark.parametrize("name", ["mouth", "lips", "smile"])
def test_the_mouth_leaves_brows_and_upper_lids_alone(photo: np.ndarray, name: str) -> None:
    moved = posed(photo, FaceControls(**{name: 1.0}))
    still = [*range(17, 27), *UPPER_LIDS]
    assert np.abs(moved - photo)[still].max() < 0.015 * face_scale(photo)


@pytest.mark.parametrize("name", ["eyelids", "brows", "gaze_x", "gaze_y"])
def test_the_eyes_leave_the_mouth_alone(photo: np.ndarray, name: str) -> None:
    moved = posed(photo, FaceControls(**{name: -1.0}))
    assert np.abs(moved - photo)[[*range(3, 14), *range(48, 68)]].max() < 0.003 * face_scale(photo)


def test_a_mouth_opens_by_degrees_and_ends_wide_open_whoever_opens_it(photo: np.ndarray) -> None:
    openness = [float(mouth_openness(posed(photo, FaceControls(mouth=share)))) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert (np.diff(openness) > 0.03).all()
    assert openness[-1] == pytest.approx(0.41, abs=0.06)


@pytest.mark.parametrize("mouth", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("lips", [-1.0, 1.0])
@pytest.mark.parametrize("smile", [-1.0, 1.0])
def test_lips_do_not_turn_inside_out(photo: np.ndarray, mouth: float, lips: float, smile: float) -> None:
    moved = posed(photo, FaceControls(mouth=mouth, lips=lips, smile=smile))
    down = (moved[8] - moved[27]) / np.linalg.norm(moved[8] - moved[27])
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        assert (moved[lower] - moved[upper]) @ down > -1e-3
    for outer, inner in ((51, 62), (66, 57)):
        assert (moved[inner] - moved[outer]) @ down > 0
    reach = 0.02 * face_scale(photo)
    assert (moved[INNER_LIP].min(axis=0) > moved[48:60].min(axis=0) - reach).all()
    assert (moved[INNER_LIP].max(axis=0) < moved[48:60].max(axis=0) + reach).all()


def test_rounded_lips_are_narrower_and_drawn_ones_wider(photo: np.ndarray) -> None:
    def width(**controls: float) -> float:
        moved = posed(photo, FaceControls(**controls))
        return float(np.linalg.norm(moved[54] - moved[48]))

    assert width(lips=1) < 0.9 * width()
    assert width(lips=-1) > 1.04 * width()


def test_a_smile_lifts_and_widens_the_corners(photo: np.ndarray) -> None:
    up = (photo[27] - photo[8]) / np.linalg.norm(photo[27] - photo[8])
    across = (photo[45] - photo[36]) / np.linalg.norm(photo[45] - photo[36])
    size = face_scale(photo)
    smiling, sad = (posed(photo, FaceControls(smile=value)) - photo for value in (1, -1))
    assert smiling[48] @ up > 0.03 * size and smiling[54] @ up > 0.03 * size
    assert (smiling[54] - smiling[48]) @ across > 0.03 * size
    assert sad[48] @ up < -0.01 * size and sad[54] @ up < -0.01 * size


def test_lids_close_in_proportion_and_exactly(photo: np.ndarray) -> None:
    opened, half, closed = (eye_openness(posed(photo, FaceControls(eyelids=value))) for value in (0, -0.5, -1))
    assert closed.max() < 0.005
    np.testing.assert_allclose(half, 0.5 * opened, rtol=0.15)
    assert (eye_openness(posed(photo, FaceControls(eyelids=1))) > 1.1 * opened).all()


@pytest.mark.parametrize("smile", [0.0, 1.0])
@pytest.mark.parametrize("yaw", [-25.0, 25.0])
def test_lids_close_in_any_pose_and_expression(photo: np.ndarray, smile: float, yaw: float) -> None:
    moved = posed(photo, FaceControls(yaw=yaw, pitch=10, roll=20, smile=smile, gaze_y=1, eyelids=-1))
    np.testing.assert_allclose(moved[UPPER_LIDS], moved[LOWER_LIDS], atol=0.01)


def test_brows_go_up_and_down(photo: np.ndarray) -> None:
    up = (photo[27] - photo[8]) / np.linalg.norm(photo[27] - photo[8])
    size = face_scale(photo)
    raised, lowered = (posed(photo, FaceControls(brows=value)) - photo for value in (1, -1))
    for brow in (RIGHT_BROW, LEFT_BROW):
        assert (raised[brow] @ up).mean() > 0.025 * size
        assert (lowered[brow] @ up).mean() < -0.01 * size


@pytest.mark.parametrize("name", ["gaze_x", "gaze_y"])
@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_irises_go_where_they_are_sent_and_stay_within_the_lids(photo: np.ndarray, name: str, value: float) -> None:
    moved = posed(photo, FaceControls(**{name: value}))
    for eye, iris, upper, lower in (
        (RIGHT_EYE, 68, UPPER_LIDS[:2], LOWER_LIDS[:2]),
        (LEFT_EYE, 69, UPPER_LIDS[2:], LOWER_LIDS[2:]),
    ):
        first, last = moved[eye.start], moved[eye.start + 3]
        across = (last - first) / np.linalg.norm(last - first)
        down = np.array([-across[1], across[0]])
        width = np.linalg.norm(last - first)
        assert 0.05 * width < (moved[iris] - first) @ across < 0.95 * width
        top, bottom = moved[upper].mean(axis=0), moved[lower].mean(axis=0)
        assert (top - first) @ down - 0.01 <= (moved[iris] - first) @ down <= (bottom - first) @ down + 0.01
        shift = value * (moved[iris] - photo[iris])
        if name == "gaze_x":
            assert shift @ across > 0.15 * width
        else:
            assert shift @ down > 0.01 * width


# ---------------------------------------------------------------------------------------------------------------- pose


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("share", [-1.0, 0.5, 1.0])
def test_angles_come_back_from_the_landmarks(axis: int, share: float) -> None:
    """With the signs of Pose.angles, whatever the face does meanwhile."""
    wanted = np.zeros(3)
    wanted[axis] = share * list(RANGES.values())[axis][1]
    controls = FaceControls(*wanted, mouth=0.5, smile=1, brows=1)
    for face in (seen(MEAN_FACE * 180), seen(person(3))):
        got = np.degrees(fit_pose(MEAN_FACE, posed(face, controls)).angles)
        still = np.degrees(fit_pose(MEAN_FACE, face).angles)
        np.testing.assert_allclose(got - still, wanted, atol=3)


def test_a_head_turns_about_its_neck(photo: np.ndarray) -> None:
    """The chin stays nearer to its place than the forehead when the head leans to a side."""
    moved = np.linalg.norm(posed(photo, FaceControls(roll=15)) - photo, axis=1)
    assert moved[8] < 0.5 * moved[73]


@pytest.mark.parametrize(
    "controls",
    [
        FaceControls(yaw=20),
        FaceControls(roll=-15, pitch=10),
        FaceControls(gaze_x=1, eyelids=-0.3),
        FaceControls(smile=1),
        FaceControls(yaw=-12, roll=8, gaze_x=-0.5, mouth=0.7, lips=0.6, brows=-1),
    ],
)
def test_the_mirror_image_of_a_face_is_moved_by_mirrored_controls(photo: np.ndarray, controls: FaceControls) -> None:
    other = replace(controls, **{name: -getattr(controls, name) for name in MIRRORED})
    expected = mirror_landmarks(posed(photo, controls), 256)
    got = posed(mirror_landmarks(photo, 256), other)
    np.testing.assert_allclose(got, expected, atol=0.01 * face_scale(photo))


# ---------------------------------------------------------------------------------------------------------------- data


def test_displacements_are_symmetric_and_complete() -> None:
    assert {name[:-1] for name in DISPLACEMENTS} == set(RANGES) - set(ANGLES)
    for name, moved in DISPLACEMENTS.items():
        other = {"gaze_x+": "gaze_x-", "gaze_x-": "gaze_x+"}.get(name, name)
        np.testing.assert_allclose(moved[MIRROR] * [-1, 1, 1], DISPLACEMENTS[other], atol=4e-3, err_msg=name)
    shut = mean_face(FaceControls(eyelids=-1))
    np.testing.assert_allclose(shut[UPPER_LIDS], shut[LOWER_LIDS], atol=2e-4)


def test_the_command_writes_the_bundled_file(tmp_path: Path) -> None:
    if not FACE_MODEL.is_file():
        pytest.skip("the face model is not beside this checkout (../shared/data/face_model)")
    import typer

    import talking_heads
    from train.expressions import main

    app = typer.Typer()
    app.command()(main)
    output = tmp_path / "expressions.csv"
    assert CliRunner().invoke(app, ["--face-model", str(FACE_MODEL), "--output", str(output)]).exit_code == 0
    bundled = Path(talking_heads.__file__).with_name("expressions.csv")
    written, kept = (path.read_text(encoding="utf-8").splitlines() for path in (output, bundled))
    assert written[0] == kept[0] and len(written) == len(kept)
    np.testing.assert_allclose(np.loadtxt(written[1:], delimiter=","), np.loadtxt(kept[1:], delimiter=","), atol=5e-4)

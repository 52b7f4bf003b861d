"""Motion presets: they loop, they are smooth, and a photo is left as it is while they rest."""

from __future__ import annotations

import numpy as np
import pytest
from test_motion import person, seen

from talking_heads.expressions import RANGES, FaceControls, mean_face
from talking_heads.faces import crop_around
from talking_heads.face_pose import MEAN_FACE, fit_pose
from talking_heads.landmarks import NUM_LANDMARKS
from talking_heads.motion import eye_openness, most_neutral, mouth_openness, retarget
from talking_heads.presets import _KEYS, PRESETS, _eased, load_preset


def angles(track: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in degrees, (T, 3)."""
    return np.degrees([fit_pose(MEAN_FACE, points).angles for points in track])


def blinks(track: np.ndarray) -> int:
    """How often the eyes close."""
    closed = eye_openness(track).mean(axis=1) < 0.08
    return int(np.sum(closed[1:] & ~closed[:-1]))


def test_all_have_keys_of_known_controls_from_rest_to_rest() -> None:
    assert set(_KEYS) == set(PRESETS)
    for seconds, keys in _KEYS.values():
        for name, points in keys.items():
            when, values = zip(*points, strict=True)
            assert name in RANGES and values[0] == values[-1] == 0
            assert (np.diff(when) > 0).all() and when[0] > 0 and when[-1] < seconds


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_track_of_3_to_6_seconds(name: str) -> None:
    track = load_preset(name)
    assert track.fps == 25 and 3 <= (len(track) - 1) / track.fps <= 6
    assert track.landmarks.shape == (len(track), NUM_LANDMARKS, 2) and track.landmarks.dtype == np.float32
    assert track.seen.all() and not track.warnings
    crop = crop_around(track.landmarks, track.frame_size)
    inside = crop.to_crop(track.landmarks, 256)
    assert inside.min() > 5 and inside.max() < 250
    np.testing.assert_array_equal(load_preset(name).landmarks, track.landmarks)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_starts_and_ends_at_rest_and_never_jumps(name: str) -> None:
    track = load_preset(name)
    size = fit_pose(MEAN_FACE, track.landmarks[0]).scale
    rest = size * mean_face(FaceControls()) + 0.5 * track.frame_size[0]
    np.testing.assert_allclose(track.landmarks[[0, -1]], np.stack([rest, rest]), atol=1e-2)
    steps = np.linalg.norm(np.diff(track.landmarks, axis=0), axis=-1).max(axis=1) / size
    assert steps[[0, -1]].max() < 0.001  # it loops without a jerk
    assert steps.max() < 0.05
    assert steps.max() > 0.01


@pytest.mark.parametrize("name", PRESETS)
def test_at_rest_the_photo_is_as_it_is(name: str) -> None:
    track = load_preset(name)
    assert most_neutral(track.landmarks) in (0, len(track) - 1)
    own = seen(person(7), 0.2, 0.1, -0.1)
    got = retarget(track.landmarks[:: len(track) - 1], own, track.landmarks[most_neutral(track.landmarks)])
    np.testing.assert_allclose(got, np.stack([own, own]), atol=0.1)


def test_each_does_what_it_is_called() -> None:
    tracks = {name: load_preset(name).landmarks for name in PRESETS}
    assert blinks(tracks["blink"]) == 1 and np.abs(angles(tracks["blink"])).max() < 2
    assert mouth_openness(tracks["blink"]).max() < 0.01
    pitch = angles(tracks["nod"])[:, 1]
    assert np.sum((pitch[1:-1] > pitch[:-2]) & (pitch[1:-1] >= pitch[2:]) & (pitch[1:-1] > 4)) == 3
    assert np.abs(angles(tracks["nod"])[:, 0]).max() < 2
    for name in ("shake", "look-around"):
        yaw = angles(tracks[name])[:, 0]
        assert yaw.max() > 8 and yaw.min() < -8
    assert np.ptp(tracks["smile"][:, 54, 0] - tracks["smile"][:, 48, 0]) > 5
    brow = tracks["surprise"][:, 19, 1] - tracks["surprise"][:, 27, 1]
    assert brow[0] - brow.min() > 4 and mouth_openness(tracks["surprise"]).max() > 0.2
    assert eye_openness(tracks["surprise"]).mean(axis=1).max() > 1.15 * eye_openness(tracks["surprise"][0]).mean()


def test_talking_is_no_chewing() -> None:
    """Lips meet several times, mouths open to many heights, and are round as well as wide."""
    track = load_preset("talking").landmarks
    openness = mouth_openness(track)
    peaks = openness[1:-1][
        (openness[1:-1] > openness[:-2]) & (openness[1:-1] >= openness[2:]) & (openness[1:-1] > 0.04)
    ]
    assert len(peaks) >= 9 and np.ptp(peaks) > 0.1 and peaks.std() > 0.04
    closed = openness < 0.015
    assert np.sum(closed[1:] & ~closed[:-1]) >= 4
    width = np.linalg.norm(track[:, 54] - track[:, 48], axis=1) / np.linalg.norm(track[0, 54] - track[0, 48])
    assert width.min() < 0.92 and width.max() > 1.03
    assert abs(np.corrcoef(width, openness)[0, 1]) < 0.8  # of a jaw alone it would be nearly 1
    assert blinks(track) == 2


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no preset 'dance'.*talking.*blink"):
        load_preset("dance")


def test_keys_are_reached_without_haste() -> None:
    times = np.linspace(0, 4, 401)
    curve = _eased(times, [(1.0, 0.0), (2.0, 1.0), (3.0, 0.0)])
    assert curve[0] == curve[100] == curve[300] == curve[-1] == 0 and curve[200] == 1
    assert curve[150] == pytest.approx(0.5)
    assert np.abs(np.diff(curve)).max() < 1.6 * 0.01
    assert np.abs(np.diff(curve))[[100, 199, 200, 299]].max() < 0.001

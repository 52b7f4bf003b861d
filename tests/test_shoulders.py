"""Shoulders that are followed through a clip: how far they go, what covers them, and what a frame does with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from talking_heads.avatar import Shots
from talking_heads.head.head import Head
from talking_heads.head.motion import Motion, gone_along
from talking_heads.head.person_fit import fit_person
from talking_heads.head.presets import load_preset
from talking_heads.head.render import Renderer
from talking_heads.head.retarget import MotionOptions, Retargeter, frame_of, motion_of
from talking_heads.tracking.detectors import MediapipeDetector
from talking_heads.tracking.motion_fitting import DriverFitter, motion_of_track
from talking_heads.tracking.points import HAIR, NUM_FOLLOWED, SHOULDERS
from talking_heads.tracking.shoulders import ShoulderTracker
from talking_heads.tracking.tracks import _Pending, track_face


def moved(image: np.ndarray, right: float, down: float) -> np.ndarray:
    return ndimage.shift(image, (down, right, 0), order=1, mode="nearest")


def followed(frames: list[np.ndarray], faces: list[np.ndarray | None]) -> list[np.ndarray]:
    """How far they have gone since the first frame."""
    tracker = ShoulderTracker()
    places = [tracker.see(frame, face) for frame, face in zip(frames, faces, strict=True)]
    assert all(place is not None for place in places)
    return [place - places[0] for place in places if place is not None]


def face_at(face: np.ndarray, right: float, down: float) -> np.ndarray:
    return (face + np.array([right, down])).astype(np.float32)


# --------------------------------------------------------------------------------------------------------- following


def test_shoulders_are_followed_to_a_fraction_of_a_pixel(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    ways = [(3.0 * k, -1.5 * k) for k in range(12)]  # further than what is looked at at once
    places = followed([moved(astronaut, *way) for way in ways], [face_at(astronaut_face, *way) for way in ways])
    np.testing.assert_allclose(places, ways, atol=1.0)


def test_a_head_that_moves_alone_takes_no_shoulders_along(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    chin = int(astronaut_face[8, 1]) + 6
    frames, faces = [], []
    for k in range(8):
        frame = astronaut.copy()
        frame[:chin] = moved(astronaut, 3 * k, 0)[:chin]
        frames.append(frame)
        faces.append(face_at(astronaut_face, 3 * k, 0))
    assert np.abs(followed(frames, faces)).max() < 1.5


def test_a_caption_does_not_hold_them(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """Covered by one that stands still they go along with the head, and are found again behind it."""
    ways = [(4.0 * k, 0.0) for k in range(16)]
    frames = [moved(astronaut, *way) for way in ways]
    top = int(astronaut_face[8, 1]) + 5
    for frame in frames[4:12]:
        frame[top:] = 240
        frame[top + 30 : top + 60 : 4] = 10
    places = followed(frames, [face_at(astronaut_face, *way) for way in ways])
    assert places[11][0] > 0.6 * ways[11][0]
    np.testing.assert_allclose(places[-1], ways[-1], atol=1.5)


def test_light_that_changes_does_not_move_them(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    frames = [(astronaut * share).astype(np.uint8) for share in np.linspace(1, 0.7, 8)]
    assert np.abs(followed(frames, [astronaut_face] * 8)).max() < 0.5


def test_no_shoulders_in_a_picture_that_ends_at_the_chin(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    above = astronaut[: int(astronaut_face[8, 1]) + 4]
    tracker = ShoulderTracker()
    assert tracker.see(above, astronaut_face) is None
    assert tracker.see(above, None) is None
    assert tracker.see(np.zeros_like(astronaut), astronaut_face) is None  # nor in the dark


def test_where_no_face_is_seen_they_stay(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    places = followed(
        [astronaut, moved(astronaut, 5, 0), np.zeros_like(astronaut)],
        [astronaut_face, face_at(astronaut_face, 5, 0), None],
    )
    np.testing.assert_array_equal(places[1], places[2])


@pytest.mark.parametrize("turns", [0, 1])
def test_a_clip_has_a_track_of_them(
    detector: MediapipeDetector, astronaut: np.ndarray, turns: int
) -> None:  # a phone that was held sideways, too
    ways = [(2.5 * k, 0.0) for k in range(10)]
    frames = [np.ascontiguousarray(np.rot90(moved(astronaut, *way), turns)) for way in ways]
    track = track_face(frames, detector, 25)
    assert track.followed is not None and track.followed.shape == (10, NUM_FOLLOWED, 2)
    along = {0: (1.0, 0.0), 1: (0.0, -1.0)}[turns]
    expected = np.array(ways)[:, :1] * along
    for point in range(NUM_FOLLOWED):  # the hair, too
        np.testing.assert_allclose(track.followed[:, point] - track.followed[0, point], expected, atol=1.2)
    motion = motion_of_track(track)
    assert motion.shoulders is not None
    # The whole picture moves: shoulders as far as the head.
    head = motion.translation[:, :2] - motion.translation[0, :2]
    np.testing.assert_allclose(motion.shoulders - motion.shoulders[0], head, atol=0.6)


def test_they_count_from_the_first_frame_that_shows_them(astronaut_face: np.ndarray) -> None:
    followed = np.full((3, NUM_FOLLOWED, 2), np.nan)
    followed[1:, SHOULDERS] = [[200, 300], [210, 300]]
    driver = DriverFitter.of(np.stack([astronaut_face] * 3), (512, 512), followed)
    frames = driver.fit_all(np.stack([astronaut_face] * 3), followed)
    assert frames[0].shoulders is None and frames[1].shoulders is not None and frames[2].shoulders is not None
    np.testing.assert_allclose(frames[1].shoulders, 0, atol=1e-6)
    assert frames[2].shoulders[0] > 0.3


def test_hair_of_a_face_that_was_none_is_left_out(astronaut_face: np.ndarray) -> None:
    """A face that is seen in a single frame is not believed; what was followed in its frame is not, either."""
    pending = _Pending(fps=25.0)
    for k in range(60):
        face = astronaut_face if k < 10 or k == 30 else None
        pending.add(face, np.full((NUM_FOLLOWED, 2), np.nan if face is None else 100.0), (512, 512))
    stretch = pending.take(60)
    assert stretch is not None and stretch.followed is not None and not stretch.seen[30]
    assert np.isfinite(stretch.followed[:10]).all() and np.isnan(stretch.followed[30, HAIR]).all()


# ------------------------------------------------------------------------------------------------------- in a motion


def with_shoulders(frames: int = 10, fps: float = 25.0, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    rest = Motion.rest(frames, fps)
    return replace(rest, translation=rng.normal(0, 2, (frames, 3)), shoulders=rng.normal(0, 2, (frames, 2)))


def test_files_keep_them(tmp_path: Path) -> None:
    motion = with_shoulders()
    motion.save(tmp_path / "a.csv")
    loaded = Motion.load(tmp_path / "a.csv")
    np.testing.assert_allclose(loaded.shoulders, motion.shoulders, atol=1e-5)
    plain = load_preset("nod")
    assert plain.shoulders is None
    plain.save(tmp_path / "b.csv")
    assert "Shoulders" not in (tmp_path / "b.csv").read_text() and Motion.load(tmp_path / "b.csv").shoulders is None


def test_they_are_cut_scaled_and_taken_with_the_head() -> None:
    motion = with_shoulders()
    assert motion.shoulders is not None
    np.testing.assert_array_equal(motion[2:5].shoulders, motion.shoulders[2:5])
    np.testing.assert_allclose(motion.scaled(head=0.5).shoulders, motion.shoulders / 2)
    np.testing.assert_array_equal(Motion.rest(10, 25.0).with_parts(motion, "head").shoulders, motion.shoulders)
    assert motion.only("lips").shoulders is None and motion.looped(1.0).shoulders.shape == (25, 2)
    halved = motion.resampled(12.5).shoulders
    np.testing.assert_allclose(halved, motion.shoulders[::2], atol=1e-5)


def test_joined_to_a_motion_that_does_not_know_them_they_follow_its_head() -> None:
    motion = with_shoulders()
    head = np.array([[0, 0, 0], [3.0, 0, 0]])
    unknown = replace(Motion.rest(2, 25.0), translation=head)
    both = motion.then(unknown, fade=0.0)
    assert both.shoulders is not None
    np.testing.assert_array_equal(both.shoulders[:10], motion.shoulders)
    np.testing.assert_allclose(both.shoulders[10:], [[0, 0], gone_along(head[1])[:2]], atol=1e-6)
    assert unknown.then(unknown).shoulders is None


def test_shoulders_of_another_shape_are_refused() -> None:
    rest = Motion.rest(3, 25.0)
    for wrong in (np.zeros((2, 2)), np.zeros((3, 3)), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match="shoulders must be finite"):
            replace(rest, shoulders=wrong)


# ------------------------------------------------------------------------------------------------------ in a picture


def test_a_frame_that_knows_them_is_drawn_with_them(head: Head) -> None:
    """Beside the neck nothing but the shoulders moves; and a head that knows of none follows the rule."""
    start = head.primary_view.fit.frame
    renderer = Renderer(head, 128)
    still = renderer.draw(start).picture
    np.testing.assert_array_equal(renderer.draw(replace(start, shoulders=np.zeros(2))).picture, still)
    raised = renderer.draw(replace(start, shoulders=np.array([0.0, 1.5]))).picture
    change = np.abs(raised - still).mean(axis=-1)
    assert change[-20:].mean() > 4 * change[:64].mean() and change[-20:].mean() > 3
    moved_head = replace(start, translation=start.translation + np.array([2.0, 0, 0]))
    by_rule = replace(moved_head, shoulders=gone_along(np.array([2.0, 0, 0]))[:2])
    np.testing.assert_allclose(renderer.draw(by_rule).picture, renderer.draw(moved_head).picture, atol=1e-2)


def test_from_a_photo_of_which_nobody_knows_where_they_are_they_follow_the_head(head: Head) -> None:
    frame = replace(head.primary_view.fit.frame, shoulders=np.array([0.0, 1.5]))
    renderer, other = Renderer(head, 64), replace(head.primary_view, shoulders=None)
    np.testing.assert_allclose(renderer._shoulders(frame, head.primary_view), [0, 1.5, 0])
    np.testing.assert_allclose(renderer._shoulders(frame, other), 0)


def test_in_each_photo_of_a_film_they_are_where_it_has_them(head: Head, shots: Shots) -> None:
    """Shoulders that lie where a photo has them are drawn as that photo shows them, whichever photo it is."""
    two = Head.of(
        head.model,
        fit_person(head.model, [shots.landmarks[0]] * 2),
        [shots.canvases[0]] * 2,
        [shots.masks[0]] * 2,
        [shots.landmarks[0]] * 2,
        shoulders=np.array([[0.5, 0.9], [0.52, 0.88]]),
    )
    primary, other = two.primary_view, two.views[1 - two.primary]
    np.testing.assert_array_equal(primary.shoulders, [0, 0])
    assert other.shoulders is not None and np.abs(other.shoulders).max() > 0.1
    scale = primary.fit.camera.scale
    sign = 1 if two.primary == 0 else -1
    np.testing.assert_allclose(other.shoulders, sign * np.array([0.02, 0.02]) / scale, atol=1e-6)
    frame = replace(other.fit.frame, shoulders=other.shoulders)
    np.testing.assert_allclose(Renderer(two, 64)._shoulders(frame, other)[:2], [0, 0], atol=1e-6)


def test_a_driver_gives_what_changes_since_rest(head: Head) -> None:
    model, photo = head.model, head.primary_view.fit.frame
    motion = with_shoulders()
    assert motion.shoulders is not None
    count = len(model.expression_names)
    neutral, driver = frame_of(motion, 0, count), frame_of(motion, 3, count)
    assert motion_of([neutral, driver], 25.0).shoulders is not None

    def carried(**options: object) -> np.ndarray | None:
        return Retargeter(model, photo, neutral, MotionOptions(**options))(driver).shoulders  # type: ignore[arg-type]

    way = motion.shoulders[3] - motion.shoulders[0]
    np.testing.assert_allclose(carried(), way, atol=1e-6)
    np.testing.assert_allclose(carried(head=0.5), 0.5 * way, atol=1e-6)
    assert carried(parts=("lips",)) is None
    # In absolute motion the head goes to where the driver's is, and the shoulders as far beside it as the driver's.
    led = gone_along(driver.translation - photo.translation)[:2]
    beside = way - gone_along(driver.translation - neutral.translation)[:2]
    np.testing.assert_allclose(carried(mode="absolute"), led + beside, atol=1e-5)
    unknown = replace(driver, shoulders=None)
    assert Retargeter(model, photo, neutral, MotionOptions())(unknown).shoulders is None

"""A film whose person's lips or eyes are moved by another: what is named moves, all else is the film's."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from media import write_clip

from talking_heads import Motion, TalkingHeadPipeline
from talking_heads.dubbing import DUBBED_PARTS, Film, FilmedPerson, Inlay, poses
from talking_heads.errors import NoFaceError
from talking_heads.examples import EXAMPLE
from talking_heads.head.head import Head
from talking_heads.head.motion import INDEX
from talking_heads.head.presets import load_preset
from talking_heads.head.retarget import MotionOptions
from talking_heads.landmarks import eye_openness, mouth_openness
from talking_heads.media.reading import probe, read_frames
from talking_heads.tracking.crops import crop_around
from talking_heads.tracking.detectors import LandmarkDetector
from talking_heads.tracking.tracks import Track

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_heads")]

SECONDS = 0.8


@pytest.fixture(scope="module")
def pipe() -> TalkingHeadPipeline:
    return TalkingHeadPipeline.from_pretrained()


@pytest.fixture(scope="module")
def film() -> list[np.ndarray]:
    return list(read_frames(EXAMPLE, end=SECONDS))


def speaking(frames: int, jaw: float) -> Motion:
    """A mouth that opens after a first frame of rest."""
    motion = Motion.rest(frames, 25)
    motion.coefficients[1:, INDEX["jawOpen"]] = jaw
    return motion


def test_lips_move_and_all_else_is_the_films(
    pipe: TalkingHeadPipeline, film: list[np.ndarray], detector: LandmarkDetector
) -> None:
    video = pipe.dub(EXAMPLE, speaking(len(film), 0.6), end=SECONDS)
    assert (len(video), video.fps, video.driving) == (len(film), 25, EXAMPLE)
    frames = list(video)
    assert len(frames) == len(film) and frames[0].shape == film[0].shape
    for k in (5, len(film) - 1):
        before, after = (detector.detect(picture)[0] for picture in (film[k], frames[k]))
        assert mouth_openness(after) > 0.25
        np.testing.assert_allclose(after[36:48], before[36:48], atol=0.02 * np.ptp(before[:, 1]))
        changed = np.argwhere(np.abs(frames[k].astype(int) - film[k]).max(axis=2) > 2)
        assert len(changed)
        assert changed[:, 0].min() > before[27:31, 1].min()  # nothing above the nose
        assert changed[:, 0].max() < after[8, 1] + 0.2 * np.ptp(before[:, 1])


def test_eyes_alone(pipe: TalkingHeadPipeline, film: list[np.ndarray], detector: LandmarkDetector) -> None:
    motion = Motion.rest(len(film), 25)
    motion.coefficients[1:, [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]] = 1
    frames = list(islice(pipe.dub(EXAMPLE, motion, parts=["eyes"], end=SECONDS), 8))
    before, after = (detector.detect(picture)[0] for picture in (film[7], frames[7]))
    assert eye_openness(after).mean() < 0.6 * eye_openness(before).mean()
    changed = np.argwhere(np.abs(frames[7].astype(int) - film[7]).max(axis=2) > 2)
    assert changed[:, 0].max() < before[51, 1]  # nothing at the lips


def test_the_person_rests_when_the_driver_has_ended(head: Head) -> None:
    film = load_preset("talking")
    driver = speaking(10, 0.5)
    names = head.model.expression_names
    jaw, brow = names.index("jawOpen"), names.index("browInnerUp")
    both = list(poses(head, film, driver, MotionOptions(parts=("lips",))))
    assert len(both) == len(film)
    jaws = np.array([wanted.expression[jaw] for _, wanted in both])
    rest = head.primary_view.fit.frame.expression[jaw]
    np.testing.assert_allclose(jaws[1:10], np.clip(rest + 0.5, 0, None), atol=1e-5)
    np.testing.assert_allclose(jaws[10:], rest, atol=1e-5)
    for k, (filmed, wanted) in enumerate(both):
        assert wanted.expression[brow] == filmed.expression[brow] == film.coefficients[k, INDEX["browInnerUp"]]
        np.testing.assert_array_equal(wanted.rotation, filmed.rotation)


def test_what_does_not_move_is_left_alone(film: list[np.ndarray], detector: LandmarkDetector) -> None:
    faces = np.stack([detector.detect(film[0])[0]] * 10)
    track = Track(faces, 25, film[0].shape[:2], np.ones(10, bool))
    person = FilmedPerson.of(Film(EXAMPLE), track)
    assert person.photos == (0, 1, 3, 4, 5, 6, 8, 9)
    inlay = Inlay(person, ["lips"], 256)
    own = crop_around(faces, track.frame_size).to_crop(faces[0], 256)
    moved = own.copy()
    moved[55:60, 1] += 0.5
    assert inlay.unchanged(own, moved)
    moved[55:60, 1] += 5
    assert not inlay.unchanged(own, moved)
    moved = own.copy()
    moved[36:48, 1] += 9  # eyes are no lips
    assert inlay.unchanged(own, moved)
    # A head that was drawn a little darker is no change: the film's light is kept.
    darker = np.clip(person.crop.cut(film[0], 256).astype(int) - 12, 0, 255).astype(np.uint8)
    assert np.abs(inlay.put(film[0], darker, own, own).astype(int) - film[0]).max() <= 8


def test_files(pipe: TalkingHeadPipeline, tmp_path: Path) -> None:
    """The film has the driving clip's sound, and is marked."""
    video = pipe.dub(EXAMPLE, EXAMPLE, end=0.4, parts=["expression"])
    video.save(tmp_path / "dubbed.mp4")
    info, film = probe(tmp_path / "dubbed.mp4"), probe(EXAMPLE)
    assert (info.width, info.height) == (film.width, film.height)
    assert info.has_audio == film.has_audio


def test_bad_input_is_named(pipe: TalkingHeadPipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose parts among lips, eyes, brows, expression, got head"):
        pipe.dub(EXAMPLE, speaking(5, 0.5), parts=["head"])
    with pytest.raises(ValueError, match="got none"):
        pipe.dub(EXAMPLE, speaking(5, 0.5), parts=[])
    empty = write_clip(tmp_path / "empty.mp4", [np.zeros((64, 64, 3), np.uint8)] * 10)
    with pytest.raises(NoFaceError, match="No face"):
        pipe.dub(empty, speaking(5, 0.5))
    with pytest.raises(NoFaceError, match="3 frames of the film only; 8 are needed"):
        FilmedPerson.of(Film(empty), Track(np.zeros((9, 238, 2), np.float32), 25, (64, 64), np.arange(9) < 3))
    assert "head" not in DUBBED_PARTS

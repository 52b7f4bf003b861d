"""Heads back in their photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import MarkDetector
from PIL import Image

from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.head.motion import Motion
from talking_heads.pasting import paste_back, paste_group
from talking_heads.tracking.crops import Portrait, crop_around
from talking_heads.tracking.detectors import MediapipeDetector

SIZE = 64


@pytest.fixture(scope="module")
def large(astronaut: np.ndarray, detector: MediapipeDetector) -> Portrait:
    """A photo whose face is far larger than what a network of SIZE pixels sees."""
    photo = np.asarray(Image.fromarray(astronaut[:300, 60:360]).resize((900, 900), Image.Resampling.LANCZOS))
    return Portrait.of(photo, detector.detect(photo)[0])


def once(head: np.ndarray, portrait: Portrait) -> np.ndarray:
    return next(iter(paste_back([head], portrait)))


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_what_the_network_sees_goes_back_without_a_trace(large: Portrait, angle: float) -> None:
    """A head that was not changed gives the photo itself, with all the detail that the head has lost."""
    portrait = Portrait(large.image, large.landmarks, type(large.crop)(450, 450, 600, angle))
    head, _ = portrait.shot(SIZE)
    difference = np.abs(once(head, portrait).astype(int) - portrait.image)
    assert difference.max() <= 1
    enlarged = np.asarray(Image.fromarray(head).resize((900, 900)))
    assert np.abs(enlarged.astype(int) - portrait.image).mean() > 5  # which is no small feat


def test_only_the_crop_changes_and_its_edge_is_soft(large: Portrait) -> None:
    portrait = Portrait(large.image, large.landmarks, type(large.crop)(450, 450, 400))
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    result = once(white, portrait)
    inside = np.zeros(result.shape[:2], bool)
    inside[250:651, 250:651] = True
    assert (result[~inside] == portrait.image[~inside]).all()
    assert result[300:600, 300:600].mean() > 245  # but for the detail that the head has lost
    steps = np.abs(np.diff(result[450, 250:300].astype(int), axis=0)) - np.abs(
        np.diff(portrait.image[450, 250:300].astype(int), axis=0)
    )
    assert steps.max() < 40  # no hard edge


def test_what_has_moved_is_seen_and_the_rest_keeps_its_detail(large: Portrait) -> None:
    """A head that a network has shrunk: only what it changed comes from it."""
    crop = crop_around(large.landmarks, large.image.shape[:2])
    portrait = Portrait(large.image, large.landmarks, crop)
    head, _ = portrait.shot(SIZE)
    changed = head.copy()
    changed[20:30, 20:44] = 255 - changed[20:30, 20:44]
    result = once(changed, portrait)
    x, y = np.round(crop.matrix(SIZE) @ [32, 25, 1]).astype(int)
    assert np.abs(result[y, x].astype(int) - portrait.image[y, x]).max() > 40
    x, y = np.round(crop.matrix(SIZE) @ [32, 45, 1]).astype(int)
    around = np.s_[y - 40 : y + 40, x - 100 : x + 100]
    assert np.abs(result[around].astype(int) - portrait.image[around]).max() <= 1


def test_the_photo_itself_is_left_alone(large: Portrait) -> None:
    before = large.image.copy()
    first, second = paste_back([np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE, 3), 255, np.uint8)], large)
    assert np.array_equal(large.image, before)
    assert not np.array_equal(first, second)


def test_a_small_face_in_a_large_photo(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """The head has more pixels than its place in the photo."""
    portrait = Portrait.of(astronaut, astronaut_face)
    head, _ = portrait.shot(512)
    assert np.abs(once(head, portrait).astype(int) - astronaut).mean() < 1


def test_a_video_into_the_photo(
    tiny_model: Path, detector: MediapipeDetector, astronaut: np.ndarray, portrait: Portrait
) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(tiny_model)
    pipe.detector = detector
    (other,) = pipe.portraits([np.ascontiguousarray(astronaut[:, ::-1])])
    avatar = pipe.create_avatar([other, portrait])
    rest = Motion.rest(5, 25.0)
    head = np.zeros((5, 3))
    head[:, 0] = np.arange(5) * 3
    motion = Motion(rest.coefficients, head, rest.gaze, rest.translation, 25.0)
    video = pipe(avatar, motion, into=portrait)
    frames = list(video)
    assert len(frames) == 5 and all(frame.shape == astronaut.shape for frame in frames)
    assert all((frame[400:] == astronaut[400:]).all() for frame in frames)
    assert any((frame != astronaut).any() for frame in frames)
    assert np.abs(frames[-1].astype(int) - frames[0]).mean() > 0.5
    assert np.abs(frames[0].astype(int) - astronaut).mean() < 0.5  # which is the neutral one
    # The other photo is part of the likeness, but not of the picture.
    assert len(avatar.shots.canvases) == 2


def test_a_portrait_is_not_searched_again(tiny_model: Path, marks: MarkDetector, portrait: Portrait) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(tiny_model)
    pipe.detector = marks
    avatar = pipe.create_avatar([portrait])
    assert marks.pictures == 0
    assert np.array_equal(avatar.shots.canvases, Shots.of([portrait]).canvases)


def test_everybody_in_a_photo_moves_by_themselves(astronaut: np.ndarray, detector: MediapipeDetector) -> None:
    pipe = TalkingHeadPipeline.from_pretrained()
    pipe.detector = detector
    one = astronaut[:300, 60:360]
    photo = np.hstack([one, one, one])
    people = pipe.people(photo)
    assert [round(person.landmarks[:, 0].mean() / 300 - 0.5) for person in people] == [0, 1, 2]  # from the left
    nod = Motion.rest(6, 25)
    nod.head[1:, 1] = 8
    shake = Motion.rest(3, 12.5)  # as long, at another rate
    shake.head[1:, 0] = 8
    video = pipe.animate_group(people, [nod, None, shake])
    assert (len(video), video.fps, video.driving) == (6, 25, None)
    frames = list(video)
    assert len(frames) == 6
    changes = np.abs(frames[-1].astype(int) - photo).max(axis=2)
    left, middle, right = (changes[:, 300 * k : 300 * (k + 1)] for k in range(3))
    assert left.max() > 30 and right.max() > 30
    assert (middle[:, 60:240] <= 1).mean() > 0.95  # but for what neighbours' crops reach
    with pytest.raises(ValueError, match="one driver or None for each of the 3 people"):
        pipe.animate_group(people, [nod])
    with pytest.raises(ValueError, match="one driver at least"):
        pipe.animate_group(people, [None, None, None])


@pytest.mark.parametrize("other_moves", [True, False])
def test_neighbours_whose_crops_overlap_leave_each_other_alone(large: Portrait, other_moves: bool) -> None:
    left, right = (Portrait(large.image, large.landmarks, type(large.crop)(x, 450, 500)) for x in (300, 600))
    white, unmoved = np.full((SIZE, SIZE, 3), 255, np.uint8), right.shot(SIZE)[0]
    if other_moves:
        picture = next(paste_group([(head for head in [white]), (head for head in [unmoved])], [left, right]))
    else:
        picture = next(paste_group([(head for head in [white])], [left], [right]))
    assert (picture[:, 500:] == large.image[:, 500:]).all()  # the border is at 450
    assert picture[400:500, 250:400].mean() > 245

"""Heads back in their photos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from talking_heads import TalkingHeadPipeline
from talking_heads.faces import Portrait, Track, crop_around
from talking_heads.landmarks import MediapipeDetector
from talking_heads.pasting import paste_back

SIZE = 64


@pytest.fixture(scope="module")
def large(astronaut: np.ndarray, detector: MediapipeDetector) -> Portrait:
    """A photo whose face is far larger than what a network of SIZE pixels sees."""
    photo = np.asarray(Image.fromarray(astronaut[:300, 60:360]).resize((900, 900), Image.Resampling.LANCZOS))
    return Portrait.of(photo, detector.detect(photo)[0])


def once(head: np.ndarray, points: np.ndarray, portrait: Portrait) -> np.ndarray:
    return next(iter(paste_back([head], points[None], portrait)))


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_what_the_network_sees_goes_back_without_a_trace(large: Portrait, angle: float) -> None:
    """A head that was not changed gives the photo itself, with all the detail that the head has lost."""
    portrait = Portrait(large.image, large.landmarks, type(large.crop)(450, 450, 600, angle))
    head, points = portrait.shot(SIZE)
    difference = np.abs(once(head, points, portrait).astype(int) - portrait.image)
    assert difference.max() <= 1
    enlarged = np.asarray(Image.fromarray(head).resize((900, 900)))
    assert np.abs(enlarged.astype(int) - portrait.image).mean() > 5  # which is no small feat


def test_only_the_crop_changes_and_its_edge_is_soft(large: Portrait) -> None:
    portrait = Portrait(large.image, large.landmarks, type(large.crop)(450, 450, 400))
    _, points = portrait.shot(SIZE)
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    result = once(white, points, portrait)
    inside = np.zeros(result.shape[:2], bool)
    inside[250:651, 250:651] = True
    assert (result[~inside] == portrait.image[~inside]).all()
    assert result[300:600, 300:600].min() >= 250
    steps = np.abs(np.diff(result[450, 250:300].astype(int), axis=0)) - np.abs(
        np.diff(portrait.image[450, 250:300].astype(int), axis=0)
    )
    assert steps.max() < 40  # no hard edge


def test_detail_moves_with_the_face(large: Portrait) -> None:
    """A head that was warped sharp and shrunk comes back nearly as sharp, where the warp has taken it."""
    shift = 24  # pixels of the photo
    crop = crop_around(large.landmarks, large.image.shape[:2])
    portrait = Portrait(large.image, large.landmarks, crop)
    moved = np.roll(large.image, shift, axis=1)
    head, points = Portrait(moved, large.landmarks + np.float32([shift, 0]), crop).shot(SIZE)
    result = once(head, points, portrait)
    low, high = (
        (large.landmarks[27:48].min(axis=0) + np.float32([shift, 0])).astype(int),
        large.landmarks[27:48].max(axis=0),
    )
    part = np.s_[low[1] : int(high[1]), low[0] : int(high[0]) + shift]
    blurred = np.asarray(Image.fromarray(head).resize((round(crop.side),) * 2, Image.Resampling.BICUBIC))
    x, y = round(crop.x - crop.side / 2), round(crop.y - crop.side / 2)
    plain = moved.copy()
    plain[y : y + len(blurred), x : x + len(blurred)] = blurred[: len(moved) - y, : len(moved) - x]
    errors = [np.abs(picture[part].astype(int) - moved[part]).mean() for picture in (result, plain)]
    assert errors[0] < 0.6 * errors[1]


def test_a_small_face_in_a_large_photo(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """The head has more pixels than its place in the photo."""
    portrait = Portrait.of(astronaut, astronaut_face)
    head, points = portrait.shot(512)
    assert np.abs(once(head, points, portrait).astype(int) - astronaut).mean() < 1


def test_a_video_into_the_photo(tiny_model, detector, astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    pipe = TalkingHeadPipeline.from_pretrained(tiny_model)
    pipe.detector = detector
    portrait, other = pipe.portraits([astronaut, np.ascontiguousarray(astronaut[:, ::-1])])
    avatar = pipe.create_avatar([other, portrait])
    moving = np.stack([astronaut_face + np.float32([k, 0]) for k in range(5)]).astype(np.float32)
    video = pipe(avatar, Track(moving, 25.0, (512, 512), np.ones(5, bool)), into=portrait)
    frames = list(video)
    assert len(frames) == 5 and all(frame.shape == astronaut.shape for frame in frames)
    assert all((frame[400:] == astronaut[400:]).all() for frame in frames)
    assert any((frame != astronaut).any() for frame in frames)
    # The other photo is part of the likeness, but not of the picture.
    assert len(avatar.photos) == 2


def test_a_portrait_is_not_searched_again(tiny_model, marks, astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    pipe = TalkingHeadPipeline.from_pretrained(tiny_model)
    pipe.detector = marks
    avatar = pipe.create_avatar([Portrait.of(astronaut, astronaut_face)])
    assert marks.pictures == 0
    crops, _ = pipe.look_at([Portrait.of(astronaut, astronaut_face)])
    assert (avatar.photo_images == crops).all()

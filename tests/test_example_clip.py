"""The bundled clip, and the painter that made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talking_heads.head.motion import head_rotation
from talking_heads.landmarks import eye_distance
from talking_heads.media.reading import probe, read_frames
from talking_heads.tracking.detectors import LandmarkDetector
from train.example_clip import FPS, SIZE, PersonRenderer, both_sides, mouth_tracks, nearest_surface, performance
from train.facekit import load_source

pytestmark = pytest.mark.slow

DRIVING = Path(__file__).parents[1] / "talking_heads" / "examples" / "driving.mp4"
FACE_MODEL = Path(__file__).parents[2] / "shared" / "data" / "face_model" / "ict_facekit.npz"


def test_mouths_open_when_it_is_loud() -> None:
    rate = 16000
    sound = np.sin(2 * np.pi * 600 * np.arange(2 * rate) / rate) * (np.arange(2 * rate) > rate)
    loudness, brightness = mouth_tracks(sound, rate, 2 * FPS)
    assert loudness[: FPS - 3].max() < 0.05 and loudness[FPS + 3 : -3].min() > 0.9
    assert brightness[FPS + 3 : -3].max() < 0.2  # a dark tone
    strengths, turns = performance(loudness, brightness)
    assert strengths[FPS + 10]["jawOpen"] > 0.4 > 0.1 > strengths[FPS // 2]["jawOpen"]
    assert turns.shape == (2 * FPS, 3, 3)
    assert both_sides(jawOpen=0.5, eyeLookIn_L=0.1, eyeBlink=1.0) == {
        "jawOpen": 0.5, "eyeLookIn_L": 0.1, "eyeBlink_L": 1.0, "eyeBlink_R": 1.0
    }  # fmt: skip


def test_the_nearer_surface_is_seen() -> None:
    corners = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], np.float32)
    far, near = (
        np.column_stack([corners * size + shift, np.full(4, z)]) for size, shift, z in ((1, 0, -1), (0.5, 2, 1))
    )
    quad = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    nearest, depth = nearest_surface(
        np.concatenate([near, far]).astype(np.float32), np.concatenate([quad, quad + 4]), 8
    )
    expected = np.full((8, 8), -1.0)
    expected[2:6, 2:6] = 1.0
    np.testing.assert_array_equal(depth, expected)
    np.testing.assert_array_equal(nearest < 2, expected > 0)


@pytest.mark.skipif(not FACE_MODEL.is_file(), reason="the face model is not beside this checkout")
def test_a_face_is_painted(detector: LandmarkDetector) -> None:
    renderer = PersonRenderer(load_source(FACE_MODEL), seed=1)
    front, aside = (renderer.render(both_sides(jawOpen=0.5), head_rotation([yaw, 0, 0])) for yaw in (0, 20))
    assert front.shape == (SIZE, SIZE, 3) and front.dtype == np.uint8
    (face,), (turned,) = detector.detect(front), detector.detect(aside)
    assert np.linalg.norm(face[62] - face[66]) > 0.15 * eye_distance(face)
    assert turned[30, 0] - turned[[36, 45], 0].mean() > face[30, 0] - face[[36, 45], 0].mean() + 5


def test_the_driving_clip_is_small_has_sound_and_lasts_six_seconds() -> None:
    info = probe(DRIVING)
    assert DRIVING.stat().st_size < 500_000
    assert info.has_audio
    assert info.fps == 25
    assert info.duration == pytest.approx(6.0, abs=0.1)


def test_the_driver_is_tracked_in_every_frame_talks_blinks_and_turns(detector: LandmarkDetector) -> None:
    found = [detector.detect(frame) for frame in read_frames(DRIVING)]
    assert len(found) == 150
    assert all(len(faces) == 1 for faces in found)
    faces = np.stack([faces[0] for faces in found])
    unit = eye_distance(faces)
    mouth = np.linalg.norm(faces[:, 62] - faces[:, 66], axis=1) / unit
    lids = np.linalg.norm(faces[:, 37] - faces[:, 41], axis=1) / unit
    nose = (faces[:, 30, 0] - faces[:, [36, 45], 0].mean(axis=1)) / unit
    assert mouth.min() < 0.02
    assert mouth.max() > 0.15
    shut = lids < 0.5 * np.median(lids)
    assert shut[32:37].any()  # at 1.35 s
    assert shut[104:110].any()  # and at 4.25 s
    assert shut.sum() < 15
    assert nose.min() < -0.12
    assert nose.max() > 0.12

"""Motion files of other programs: what they say comes out under our names, signs and units."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talking_heads.errors import UnreadableMediaError
from talking_heads.head.eyes import with_gaze
from talking_heads.head.model import face_model
from talking_heads.head.motion import COEFFICIENTS, INDEX, Motion, head_angles, head_rotation


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def result(scores: dict[str, float], pose: np.ndarray | None = None) -> dict[str, Any]:
    """One frame as MediaPipe's library for browsers gives it."""
    categories = [{"index": 0, "score": 0.0, "categoryName": "_neutral", "displayName": ""}]
    categories += [
        {"index": k + 1, "score": scores.get(name, 0.0), "categoryName": name, "displayName": ""}
        for k, name in enumerate(COEFFICIENTS)
        if name != "tongueOut"
    ]
    frame: dict[str, Any] = {"faceBlendshapes": [{"categories": categories, "headIndex": -1, "headName": ""}]}
    if pose is not None:
        frame["facialTransformationMatrixes"] = [{"rows": 4, "columns": 4, "data": pose.T.ravel().tolist()}]
    return frame


def pose(angles: tuple[float, float, float], place: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = head_rotation(angles), place
    return matrix


def test_mediapipe(tmp_path: Path) -> None:
    frames = [
        result({"jawOpen": 0.25, "eyeLookOutLeft": 0.4, "eyeLookInRight": 0.4}, pose((10, 5, -3), (1, 2, -40))),
        result({"jawOpen": 0.5, "mouthSmileLeft": 1.0001}, pose((-20, 0, 0), (3, 2, -38))),
    ]
    motion = Motion.load(written(tmp_path / "face.json", {"fps": 24, "frames": frames}))
    assert motion.fps == 24 and len(motion) == 2 and motion.seen.all()
    np.testing.assert_allclose(motion.coefficients[:, INDEX["jawOpen"]], [0.25, 0.5])
    assert motion.coefficients[1, INDEX["mouthSmileLeft"]] == 1
    np.testing.assert_allclose(motion.head, [(10, 5, -3), (-20, 0, 0)], atol=1e-4)
    np.testing.assert_allclose(motion.translation, [(0, 0, 0), (2, 0, 2)], atol=1e-5)
    np.testing.assert_allclose(motion.gaze[0], [10, 0, 10, 0], atol=1e-5)  # both to the person's left
    assert Motion.load(tmp_path / "face.json", fps=50).fps == 50


def test_a_plain_list_of_results_is_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snake = {"face_blendshapes": [[{"category_name": "eyeBlinkLeft", "score": 0.75}]]}
    motion = Motion.load(written(tmp_path / "face.JSON", [snake, {"faceBlendshapes": []}, snake]))
    assert motion.fps == 30 and "taken as 30 a second" in caplog.text
    np.testing.assert_array_equal(motion.seen, [True, False, True])
    np.testing.assert_allclose(motion.coefficients[:, INDEX["eyeBlinkLeft"]], 0.75)  # held
    assert not motion.head.any() and not motion.translation.any()


def test_audio2face(tmp_path: Path) -> None:
    names = [name for name in COEFFICIENTS if name != "tongueOut"][::-1]
    weights = np.linspace(0, 1, 3 * len(names)).reshape(3, -1)
    content = {
        "exportFps": 60.0, "trackPath": "speech.wav", "numPoses": len(names), "numFrames": 3, "facsNames": names,
        "weightMat": weights.tolist(), "joints": [], "rotations": [], "translations": [],
    }  # fmt: skip
    motion = Motion.load(written(tmp_path / "speech.json", content))
    assert motion.fps == 60
    for column, name in enumerate(names):
        np.testing.assert_allclose(motion.coefficients[:, INDEX[name]], weights[:, column], atol=1e-6)
    assert not motion.coefficients[:, INDEX["tongueOut"]].any()


def test_eyes_look_where_their_coefficients_say(tmp_path: Path) -> None:
    """The inverse of what a fit makes of a gaze."""
    gaze = np.array([[12.0, -8.0], [7.0, 10.0]])
    model = face_model()
    expression = with_gaze(model, np.zeros(len(model.expression_names), np.float32), gaze)
    scores = {name: float(value) for name, value in zip(model.expression_names, expression, strict=True)}
    motion = Motion.load(written(tmp_path / "eyes.json", [result(scores)]), fps=25)
    np.testing.assert_allclose(motion.gaze[0].reshape(2, 2), gaze, atol=1e-4)


def test_angles_round_trip_through_matrices() -> None:
    angles = (25.0, -10.0, 40.0)
    np.testing.assert_allclose(head_angles(head_rotation(angles)), angles)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({}, "no blendshapes of MediaPipe"),
        ([], "no blendshapes of MediaPipe"),
        ([1, 2], "no blendshapes of MediaPipe"),
        ([{"faceLandmarks": []}], "no blendshapes of MediaPipe"),
        ([{"faceBlendshapes": []}], "no frame in which a face was seen"),
        ([{"faceBlendshapes": [{"categories": [{"categoryName": "jawOpen", "score": "x"}]}]}], "no blendshapes"),
        ([result({"jawOpen": math.nan})], "no finite numbers"),
        ({"facsNames": ["browLowerL", "browLowerR"], "weightMat": [[0, 1]]}, "are not ARKit's"),
        ({"facsNames": list(COEFFICIENTS), "weightMat": [[0, 1]]}, "do not fit its 52 poses"),
        ({"facsNames": list(COEFFICIENTS), "weightMat": []}, "do not fit its 52 poses"),
    ],
)
def test_other_files_are_refused_with_a_sentence(tmp_path: Path, content: Any, match: str) -> None:
    with pytest.raises(UnreadableMediaError, match=match) as refused:
        Motion.load(written(tmp_path / "other.json", content))
    assert str(refused.value).count("\n") == 0 and "other.json" in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "\ufeffno", "[" * 100_000])
def test_what_is_no_json_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableMediaError, match="no blendshapes of MediaPipe"):
        Motion.load(tmp_path / "other.json")
    with pytest.raises(UnreadableMediaError, match="cannot be read"):
        Motion.load(tmp_path / "absent.json")

"""The layout of the points on a real face, and the two detectors behind one protocol."""

from __future__ import annotations

import importlib
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MarkDetector, close_eyes, mean_face
from matplotlib.path import Path as Outline
from PIL import Image

from talking_heads.errors import MissingDependencyError
from talking_heads.landmarks import (
    HAIRLINE,
    INNER_LIP,
    IRISES,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
    eye_distance,
    irises_within_lids,
)
from talking_heads.tracking.detectors import (
    DETECTORS,
    FaceAlignmentDetector,
    LandmarkDetector,
    MediapipeDetector,
    complete_landmarks,
    load_detector,
)

# ---------------------------------------------------------------------------------------------------------- mediapipe


def test_every_detector_honours_the_protocol(detector: MediapipeDetector, marks: MarkDetector) -> None:
    assert isinstance(detector, LandmarkDetector)
    assert isinstance(marks, LandmarkDetector)


def test_a_real_face_has_its_points_in_pixels(detector: MediapipeDetector, astronaut: np.ndarray) -> None:
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    (face,) = faces
    assert face.shape == (NUM_LANDMARKS, 2)
    assert face.dtype == np.float32
    assert face[:, 0].min() > 150
    assert face[:, 0].max() < 300
    assert face[:, 1].min() > 30
    assert face[:, 1].max() < 200


def test_right_and_left_are_the_persons_own(astronaut_face: np.ndarray) -> None:
    for right, left in ((RIGHT_EYE, LEFT_EYE), (RIGHT_BROW, LEFT_BROW)):
        assert astronaut_face[right, 0].max() < astronaut_face[left, 0].min()
    for part in (JAW, HAIRLINE):  # from the person's right to the left
        assert astronaut_face[part][0, 0] < astronaut_face[part][len(astronaut_face[part]) // 2, 0]
        assert astronaut_face[part][len(astronaut_face[part]) // 2, 0] < astronaut_face[part][-1, 0]
    assert astronaut_face[IRISES][0, 0] < astronaut_face[IRISES][1, 0]


def test_parts_lie_where_faces_have_them(astronaut_face: np.ndarray) -> None:
    """From top to bottom: hairline, brows, irises, nose, lips, chin."""
    heights = [
        astronaut_face[part, 1].mean()
        for part in (HAIRLINE, slice(17, 27), IRISES, slice(31, 36), OUTER_LIP, slice(8, 9))
    ]
    assert (np.diff(heights) > 10).all()
    for iris, eye in ((68, RIGHT_EYE), (69, LEFT_EYE)):
        assert Outline(astronaut_face[eye]).contains_point(astronaut_face[iris])
    lips = Outline(astronaut_face[OUTER_LIP])
    assert lips.contains_points(astronaut_face[INNER_LIP]).mean() > 0.7
    assert eye_distance(astronaut_face) == pytest.approx(np.linalg.norm(astronaut_face[36] - astronaut_face[45]))


def test_no_face(detector: MediapipeDetector) -> None:
    assert detector.detect(np.full((120, 160, 3), 127, np.uint8)) == []


def test_several_faces_come_largest_first(detector: MediapipeDetector, astronaut: np.ndarray) -> None:
    head = astronaut[:240, 100:340]
    small = np.full_like(head, 127)
    small[30:210, 30:210] = np.asarray(Image.fromarray(head).resize((180, 180)))
    faces = detector.detect(np.hstack([small, head]))
    assert len(faces) == 2
    assert faces[0][:, 0].min() > 240 > faces[1][:, 0].max()
    rows = detector.detect(np.vstack([np.hstack([head, head])] * 2))
    assert len(rows) == 4


def test_points_move_with_the_picture(
    detector: MediapipeDetector, astronaut: np.ndarray, astronaut_face: np.ndarray
) -> None:
    (face,) = detector.detect(astronaut[10:400, 40:400])
    assert np.abs(face + np.array([40, 10]) - astronaut_face).mean() < 1.5


def test_the_answer_does_not_depend_on_what_was_seen_before(detector: MediapipeDetector, astronaut: np.ndarray) -> None:
    first = detector.detect(astronaut)[0]
    detector.detect(np.ascontiguousarray(astronaut[:, ::-1]))
    np.testing.assert_array_equal(detector.detect(astronaut)[0], first)


def test_threads_may_share_a_detector(detector: MediapipeDetector, astronaut: np.ndarray) -> None:
    expected = detector.detect(astronaut)[0]
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(detector.detect(astronaut)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for face in found:
        np.testing.assert_array_equal(face, expected)


def test_starting_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    detector = load_detector("mediapipe")
    detector.detect(np.zeros((64, 64, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------------------- completion


def test_completion_comes_close_to_what_the_mesh_sees(astronaut_face: np.ndarray) -> None:
    completed = complete_landmarks(astronaut_face[:68])
    assert completed.shape == (NUM_LANDMARKS, 2)
    assert completed.dtype == np.float32
    np.testing.assert_array_equal(completed[:68], astronaut_face[:68])
    error = np.linalg.norm(completed - astronaut_face, axis=1) / eye_distance(astronaut_face)
    assert error[IRISES].max() < 0.03
    assert error[HAIRLINE].max() < 0.15


def test_completion_turns_and_grows_with_the_face() -> None:
    face = mean_face(200)
    turn = 1.7 * np.array([[0.8, -0.6], [0.6, 0.8]])
    np.testing.assert_allclose(
        complete_landmarks(face[:68] @ turn.T), complete_landmarks(face[:68]) @ turn.T, atol=1e-2
    )


def test_completion_takes_68_points_only() -> None:
    with pytest.raises(ValueError, match="expected"):
        complete_landmarks(mean_face(200))


# ---------------------------------------------------------------------------------------------------------- by name


def test_unknown_names_are_the_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="unknown detector 'dlib'; choose one of mediapipe, face-alignment"):
        load_detector("dlib")


def test_names_are_those_of_the_detectors() -> None:
    assert (MediapipeDetector.name, FaceAlignmentDetector.name) == DETECTORS


# ----------------------------------------------------------------------------------------------------- face-alignment


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's helpers would compile for ten seconds to look at one face; our own renderer stays compiled."""
    import numba

    # For the import alone: what is compiled meanwhile would find interpreted functions where it needs compiled ones.
    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        importlib.import_module("face_alignment")


@pytest.mark.usefixtures("no_network", "interpreted")
def test_missing_weights_are_named_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="or use the detector mediapipe") as caught:
        load_detector("face-alignment")
    assert FaceAlignmentDetector.weights_url in str(caught.value)
    assert str(tmp_path / "hub" / "checkpoints" / FaceAlignmentDetector.weights_name) in str(caught.value)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.usefixtures("no_network", "interpreted")
def test_the_package_loads_weights_from_where_we_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: np.ndarray, astronaut_face: np.ndarray
) -> None:
    """Random weights in the package's own format: its loading, cropping and heat maps run, the points are noise."""
    from face_alignment.api import models_urls
    from face_alignment.models import FAN

    assert models_urls["2DFAN-4"] == FaceAlignmentDetector.weights_url
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(FAN(4).state_dict(), folder / FaceAlignmentDetector.weights_name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    detector = load_detector("face-alignment")
    assert isinstance(detector, LandmarkDetector)
    assert not detector.has_irises
    (face,) = detector.detect(astronaut)
    assert face.shape == (NUM_LANDMARKS, 2)
    assert face.dtype == np.float32
    # The network looks at a square of less than twice the face around the face.
    assert np.abs(face[:68] - astronaut_face.mean(axis=0)).max() < 1.2 * np.ptp(astronaut_face[:, 1])
    assert detector.detect(np.zeros((64, 64, 3), np.uint8)) == []


def test_irises_stay_between_the_lids() -> None:
    face = mean_face(150)
    np.testing.assert_allclose(irises_within_lids(face), face, atol=1e-4)  # where they lie in an open eye
    closed = close_eyes(face)
    closed[69, 1] -= 9.0
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    for wrong in (closed, (closed @ turn.T).astype(np.float32)):
        right = irises_within_lids(np.stack([face, wrong]))[1]
        for iris, lids in ((68, [37, 38, 40, 41]), (69, [43, 44, 46, 47])):
            assert np.linalg.norm(right[iris] - right[lids].mean(axis=0)) < 3.0
        np.testing.assert_array_equal(right[:68], wrong[:68])

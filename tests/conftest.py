"""What many tests share: no network, few threads, one real detector, one real photo, and a stub that sees marks."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch come; of processes that tests start, too
# Each process of pytest-xdist ("gw0", "gw1") looks for the ports of its pages in a range of its own.
os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from certifi import where

from talking_heads.head.model import Camera, face_model
from talking_heads.tracking.detectors import MediapipeDetector

if TYPE_CHECKING:
    from served import Served

    from talking_heads.avatar import Shots
    from talking_heads.head.head import Head
    from talking_heads.tracking.crops import Portrait

HOME = tempfile.mkdtemp()
os.environ["TALKING_HEADS_HOME"] = HOME  # of this process and those that tests start: never the user's own

# A client of gradio reads all authorities' certificates several times a call, 0.1 s each; offline, one does as well.
AUTHORITY = Path(HOME).with_suffix(".pem")
AUTHORITY.write_text(re.search(r"-----BEGIN.*?-----END.*?-----\n", Path(where()).read_text(), re.DOTALL)[0])
os.environ["SSL_CERT_FILE"] = str(AUTHORITY)

torch.set_num_threads(1)  # tiny networks: more threads would wait for each other


def _mean_face() -> np.ndarray:
    model = face_model()
    face = Camera(1.0, (0.0, 0.0)).project(model.mean[model.landmark_vertices])[:, :2]
    size = face[8, 1] - face[73, 1]
    return (face - 0.5 * (face[8] + face[73])) / size


MEAN_FACE = _mean_face()
"""float32 (L, 2): the face model's mean, seen from the front, from hairline to chin in -0.5..0.5."""


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME)
    AUTHORITY.unlink()


class MarkDetector:
    """A LandmarkDetector for pictures in which ``paint_face`` put faces: marks of one person's colour are a face.

    What it sees it sees in any rotation, mirrored as well, and in any part of the picture that holds both eyes.
    """

    name = "marks"
    has_irises = True

    def __init__(self) -> None:
        self.pictures = 0

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """The mean face through each pair of marks, the largest first."""
        self.pictures += 1
        faces = []
        for person in range(4):
            level = 255 - 8 * person
            right = np.argwhere((image[..., 0] == level) & (image[..., 2] == 0))[:, ::-1]
            left = np.argwhere((image[..., 2] == level) & (image[..., 0] == 0))[:, ::-1]
            chin = np.argwhere((image[..., 1] == level) & (image[..., 0] == 0) & (image[..., 2] == 0))[:, ::-1]
            if len(right) and len(left):
                closed = image[right[0, 1], right[0, 0], 1] / 100
                eyes = [right.mean(axis=0), left.mean(axis=0)]
                if len(chin):
                    across, down = eyes[1] - eyes[0], chin.mean(axis=0) - eyes[0]
                    if across[0] * down[1] < across[1] * down[0]:  # in a mirror: its right eye is the left one
                        eyes.reverse()
                faces.append(_face_through(*eyes, closed))
        return sorted(faces, key=lambda face: -float(np.prod(np.ptp(face, axis=0))))


def _face_through(right: np.ndarray, left: np.ndarray, closed: float) -> np.ndarray:
    face = close_eyes(MEAN_FACE, closed)
    across = (left - right) / np.linalg.norm(MEAN_FACE[45] - MEAN_FACE[36])
    turn = np.array([[across[0], -across[1]], [across[1], across[0]]])
    return (0.5 * (right + left) + (face - 0.5 * (face[36] + face[45])) @ turn.T).astype(np.float32)


def close_eyes(face: np.ndarray, amount: float = 1.0) -> np.ndarray:
    """``face`` (..., L, 2) with the upper lids brought down: 1 closes them."""
    face = face.copy()
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        face[..., upper, :] += amount * (face[..., lower, :] - face[..., upper, :])
    return face


def open_mouth(face: np.ndarray, amount: float) -> np.ndarray:
    """``face`` (..., L, 2) with the lower lips and the chin ``amount`` pixels further down."""
    face = face.copy()
    face[..., [5, 6, 7, 8, 9, 10, 11, 55, 56, 57, 58, 59, 65, 66, 67], 1] += amount
    return face


def paint_face(
    image: np.ndarray, x: float, y: float, scale: float, roll: float = 0.0, person: int = 0, closed: float = 0.0
) -> None:
    """Puts the marks of a face, between the eyes at (x, y) and ``scale`` pixels high, into ``image``."""
    level = 255 - 8 * person
    reach = 0.5 * scale * np.linalg.norm(MEAN_FACE[45] - MEAN_FACE[36]) * np.array([np.cos(roll), np.sin(roll)])
    green = round(100 * closed)
    below = 0.4 * scale * np.array([-np.sin(roll), np.cos(roll)])
    for mark, colour in ((-reach, (level, green, 0)), (reach, (0, green, level)), (below, (0, level, 0))):
        column, row = np.round(np.array([x, y]) + mark).astype(int)
        image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = colour


def mean_face(size: float, x: float = 128.0, y: float = 128.0) -> np.ndarray:
    """The mean face from the front, ``size`` pixels high, float32 (L, 2)."""
    return (MEAN_FACE * size + [x, y]).astype(np.float32)


@pytest.fixture(scope="session")
def detector() -> MediapipeDetector:
    """The real detector: one start for the whole session."""
    return MediapipeDetector()


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real photo of one person, uint8 (512, 512, 3), upright and nearly frontal. Copy before changing."""
    from skimage.data import astronaut

    photo = astronaut()
    photo.setflags(write=False)
    return photo


@pytest.fixture(scope="session")
def astronaut_face(detector: MediapipeDetector, astronaut: np.ndarray) -> np.ndarray:
    """Its landmarks (L, 2)."""
    return detector.detect(astronaut)[0]


@pytest.fixture
def marks() -> MarkDetector:
    """The stub, for tests in which pixels do not matter."""
    return MarkDetector()


@pytest.fixture(scope="module")
def server(tiny_model: Path, detector: MediapipeDetector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page with the tiny model, for the tests of one file."""
    from served import served  # brings gradio

    with served(tiny_model, detector, tmp_path_factory.mktemp("cache")) as server:
        yield server


@pytest.fixture(scope="module")
def visitors(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """A folder with photos and clips as visitors have them."""
    from served import visitors_files

    return visitors_files(tmp_path_factory.mktemp("visitors"), astronaut)


@pytest.fixture(scope="session")
def portrait(astronaut: np.ndarray, astronaut_face: np.ndarray) -> Portrait:
    """The photo with the place of its face."""
    from talking_heads.tracking.crops import Portrait

    return Portrait.of(astronaut, astronaut_face)


@pytest.fixture(scope="session")
def shots(portrait: Portrait) -> Shots:
    """What an avatar keeps of that photo."""
    from talking_heads.avatar import Shots

    return Shots.of([portrait])


@pytest.fixture(scope="session")
def head(shots: Shots) -> Head:
    """Its head in three dimensions."""
    from talking_heads.avatar import make_head

    return make_head(shots)


@pytest.fixture
def coarse_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads with coarse outlines, which are made in a third of the time; those of a file or the session are not."""
    monkeypatch.setattr("talking_heads.avatar.ANALYSIS", 256)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of 32 pixels with random weights, whose correction is still nought; copy before
    changing."""
    from tiny import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", size=32, gain=0.0)

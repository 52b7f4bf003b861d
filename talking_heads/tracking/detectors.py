"""Detectors of landmarks: one protocol, two of them. They look at one picture, each on its own."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import MissingDependencyError
from ..head.person_fit import complete
from ..landmarks import _SKIN_INDICES, IRISES, LEFT_EYE, RIGHT_EYE, irises_within_lids

# fmt: off
# Vertices of the 468-point face mesh that lie nearest to the iBUG points, then the irises, the hairline and the skin.
MESH_INDICES = np.array([
    *(127, 234, 93, 132, 58, 136, 149, 176, 152, 400, 378, 365, 288, 361, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lip
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lip
    *(468, 473),  # irises
    *(54, 103, 67, 10, 297, 332, 284),  # hairline
    *_SKIN_INDICES,
])
# fmt: on


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds faces in one image. Implementations may be called from several threads."""

    name: str
    has_irises: bool
    """Whether points 68 and 69 are seen (True) or put at the centres of the eyes (False)."""

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """uint8 RGB (H, W, 3) -> faces, the largest first, each float32 (L, 2) in pixels; an empty list for none."""
        ...


def complete_landmarks(points: np.ndarray) -> np.ndarray:
    """The 68 points of a detector that knows no others, (68, 2) in pixels -> float32 (L, 2).

    Irises go to the centres of the eye outlines; hairline and skin are those of the face model, fitted to the points.
    """
    if points.shape != (68, 2):
        raise ValueError(f"expected (68, 2), got {points.shape}")
    corner, size = points.min(axis=0), float(np.ptp(points, axis=0).max())
    result = complete((points - corner) / size) * size + corner
    for iris, eye in zip(range(IRISES.start, IRISES.stop), (RIGHT_EYE, LEFT_EYE), strict=True):
        result[iris] = points[eye].mean(axis=0)
    return result.astype(np.float32)


class MediapipeDetector:
    """The mediapipe face mesh: offline, about 4 ms a face on a CPU, with irises. Models lie in the package's wheel."""

    name = "mediapipe"
    has_irises = True

    def __init__(self, max_faces: int = 4, min_confidence: float = 0.4) -> None:
        """``max_faces`` faces are looked for; ``min_confidence`` in 0..1 is asked of the face detector."""
        # The graph's C++ logs (a dozen lines a start) are no concern of a user's.
        os.environ.setdefault("GLOG_minloglevel", "3")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            with silent_stderr():
                import mediapipe
        except ImportError as error:
            raise MissingDependencyError(
                f"mediapipe 0.10.14 cannot be loaded ({error}). Install it: pip install mediapipe==0.10.14 "
                "(on Debian and Ubuntu also: apt-get install libgl1)."
            ) from error
        if not hasattr(mediapipe, "solutions"):
            raise MissingDependencyError(
                f"mediapipe {mediapipe.__version__} has no face mesh inside. Install the version that has: "
                "pip install mediapipe==0.10.14."
            )
        with silent_stderr():
            self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
                # Each frame on its own: smoothing is ours (tracks.py), and a held track drifts off a lost face.
                static_image_mode=True,
                max_num_faces=max_faces,
                refine_landmarks=True,
                min_detection_confidence=min_confidence,
            )
            self._lock = threading.Lock()  # the graph is not re-entrant
            self.detect(np.zeros((64, 64, 3), dtype=np.uint8))  # its last log lines come with the first picture

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """See LandmarkDetector."""
        return [irises_within_lids(mesh[MESH_INDICES, :2]) for mesh in self.meshes(image)]

    def meshes(self, image: np.ndarray) -> list[np.ndarray]:
        """The face mesh of each face, the largest first, float32 (478, 3) in pixels; z away from the viewer."""
        with self._lock, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype", category=UserWarning)
            found = self._mesh.process(np.ascontiguousarray(image)).multi_face_landmarks
        size = np.array([image.shape[1], image.shape[0], image.shape[1]], dtype=np.float32)
        faces = [np.array([(p.x, p.y, p.z) for p in face.landmark], dtype=np.float32) * size for face in found or []]
        return sorted(faces, key=lambda face: -float(np.prod(np.ptp(face[MESH_INDICES, :2], axis=0))))


class FaceAlignmentDetector:
    """The paper's detector: 2D-FAN of Bulat & Tzimiropoulos (package face-alignment), 68 points, 100-220 ms on a CPU.

    Boxes come from mediapipe, so that of the package's weights only the landmark network is needed.
    """

    name = "face-alignment"
    has_irises = False
    weights_name = "2DFAN4-11f355bf06.pth.tar"
    weights_url = "https://www.adrianbulat.com/downloads/python-fan/" + weights_name

    def __init__(self, device: str = "cpu") -> None:
        """``device`` is a torch device. Raises MissingDependencyError where package or weights are missing."""
        import torch

        try:
            import face_alignment
        except ImportError as error:
            raise MissingDependencyError(
                f"The package face-alignment cannot be loaded ({error}). Install it: pip install face-alignment."
            ) from error
        weights = Path(torch.hub.get_dir()) / "checkpoints" / self.weights_name
        if not weights.is_file():
            raise MissingDependencyError(
                f"The weights of face-alignment are not on this machine. Download {self.weights_url} "
                f"to {weights}, or use the detector mediapipe, which needs no download."
            )
        self._boxes = MediapipeDetector()
        # compile=True would write a cache and take half a minute for nothing at one face a call.
        self._network = face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D, device=device, compile=False, face_detector="folder"
        )
        self._lock = threading.Lock()

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """See LandmarkDetector."""
        boxes = [_tight_box(face) for face in self._boxes.detect(image)]
        if not boxes:
            return []
        with self._lock:
            found = self._network.get_landmarks_from_image(image, detected_faces=boxes)
        return [complete_landmarks(np.asarray(points, dtype=np.float32)[:, :2]) for points in found or []]


def _tight_box(landmarks: np.ndarray) -> list[float]:
    """A box from mid-forehead to chin, as the face detector brings it with which 2D-FAN was trained, and a score."""
    left, top = landmarks.min(axis=0)
    right, bottom = landmarks.max(axis=0)
    brows = landmarks[17:27, 1].min()
    return [float(left), float(0.5 * (top + brows)), float(right), float(bottom), 1.0]


DETECTORS = ("mediapipe", "face-alignment")


def load_detector(name: str = "mediapipe", device: str = "cpu") -> LandmarkDetector:
    """A detector by name, one of DETECTORS. ``device`` matters to face-alignment only."""
    if name == "mediapipe":
        return MediapipeDetector()
    if name == "face-alignment":
        return FaceAlignmentDetector(device)
    raise ValueError(f"unknown detector {name!r}; choose one of {', '.join(DETECTORS)}")


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keeps lines away that a native library writes to file descriptor 2 before it can be configured."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all, as in a windowed process
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)

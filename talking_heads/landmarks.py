"""Face landmarks: one layout of points, one protocol, two detectors.

A face is float32 (L, 2) with L = NUM_LANDMARKS = 238, (x, y) in pixels of the image that it came with:

    0-67    the 68 points of iBUG / the paper (right and left are the person's own)
    68, 69  centre of the right and of the left iris: this is how gaze gets in
    70-76   the hairline, from the person's right temple to the left one
    77-237  the skin between them: cheeks, jaw, nose, the hollows round the eyes

The skin's points steady pose and identity of the face model (head/fit.py): they are those of the face mesh that say
most about where its other vertices lie. A detector that knows only the 68 points completes the rest from them
(``complete_landmarks``), so that everything behind a detector sees one layout.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np

from .errors import MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor

Points = TypeVar("Points", np.ndarray, "Tensor")

JAW = slice(0, 17)
CHIN = slice(5, 12)
RIGHT_BROW, LEFT_BROW = slice(17, 22), slice(22, 27)
NOSE_BRIDGE, NOSE_BASE = slice(27, 31), slice(31, 36)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]  # which meet when the eyes close
OUTER_LIP, INNER_LIP = slice(48, 60), slice(60, 68)
IRISES = slice(68, 70)
HAIRLINE = slice(70, 77)
NAMED = slice(0, 77)
"""All but the skin: points that mark something."""

FACE_OUTLINE = (*range(17), *range(76, 69, -1))
"""Jaw and hairline, once round."""

# fmt: off
# Vertices of the 468-point face mesh on the skin: pairs (the person's right, left), and some on the middle line.
_SKIN_PAIRS = (
    (123, 352), (147, 376), (187, 411), (50, 280), (118, 347), (117, 346), (115, 344), (220, 440), (137, 366),
    (174, 399), (227, 447), (162, 389), (216, 436), (192, 416), (214, 434), (215, 435), (172, 397), (177, 401),
    (205, 425), (44, 274), (119, 348), (34, 264), (101, 330), (21, 251), (167, 393), (51, 281), (134, 363),
    (201, 421), (210, 430), (207, 427), (138, 367), (206, 426), (228, 448), (198, 420), (209, 429), (3, 248),
    (126, 355), (225, 445), (186, 410), (224, 444), (45, 275), (43, 273), (122, 351), (55, 285), (213, 433),
    (116, 345), (69, 299), (125, 354), (219, 439), (35, 265), (129, 358), (135, 364), (236, 456), (139, 368),
    (83, 313), (182, 406), (196, 419), (91, 321), (36, 266), (212, 432), (165, 391), (148, 377), (222, 442),
    (150, 379), (32, 262), (229, 449), (230, 450), (211, 431), (237, 457), (68, 298), (71, 301), (65, 295), (85, 315),
    (121, 350), (41, 271), (231, 451),
)
_SKIN_MIDDLE = (164, 200, 18, 19, 16, 1, 6, 11, 15)
_SKIN_INDICES = (*(vertex for pair in _SKIN_PAIRS for vertex in pair), *_SKIN_MIDDLE)

NUM_LANDMARKS = NAMED.stop + len(_SKIN_INDICES)
SKIN = slice(NAMED.stop, NUM_LANDMARKS)

# Landmark i of the mirrored picture is landmark MIRROR[i] of the original.
MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
    69, 68, 76, 75, 74, 73, 72, 71, 70,
    *(SKIN.start + i + (1, -1)[i % 2] for i in range(2 * len(_SKIN_PAIRS))),
    *range(SKIN.start + 2 * len(_SKIN_PAIRS), SKIN.stop),
])
# fmt: on

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


def mirror_landmarks(landmarks: Points, size: int) -> Points:
    """Landmarks (..., L, 2) of the mirrored picture of side ``size``."""
    mirrored: Points = landmarks[..., MIRROR, :]  # a copy
    mirrored[..., 0] = size - 1 - mirrored[..., 0]
    return mirrored


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance between the outer corners of the eyes, (..., L or 68, 2) -> (...): the field's unit of error."""
    return np.linalg.norm(landmarks[..., 36, :] - landmarks[..., 45, :], axis=-1)


def irises_within_lids(landmarks: np.ndarray) -> np.ndarray:
    """(..., L, 2) with the irises moved, across the eye, to between the lids; what lies there stays.

    Detectors guess the iris of a closed eye, some way above or below it. An eyeball that obeyed would roll back.
    """
    result = landmarks.copy()
    for iris, first, last, upper, lower in ((68, 36, 39, (37, 38), (40, 41)), (69, 42, 45, (43, 44), (46, 47))):
        along = landmarks[..., last, :] - landmarks[..., first, :]
        along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
        down = np.stack([-along[..., 1], along[..., 0]], axis=-1)

        def height(points: np.ndarray, down: np.ndarray = down) -> np.ndarray:
            return np.sum(points * down, axis=-1, keepdims=True)

        top = height(landmarks[..., upper, :].mean(axis=-2))
        bottom = np.maximum(height(landmarks[..., lower, :].mean(axis=-2)), top)
        now = height(landmarks[..., iris, :])
        result[..., iris, :] += (np.clip(now, top, bottom) - now) * down
    return result


def complete_landmarks(points: np.ndarray) -> np.ndarray:
    """The 68 points of a detector that knows no others, (68, 2) in pixels -> float32 (L, 2).

    Irises go to the centres of the eye outlines; hairline and skin are those of the face model, fitted to the points.
    """
    if points.shape != (68, 2):
        raise ValueError(f"expected (68, 2), got {points.shape}")
    from .head.fit import complete  # which needs this file

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
                # Each frame on its own: smoothing is ours (faces.py), and a held track drifts off a lost face.
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

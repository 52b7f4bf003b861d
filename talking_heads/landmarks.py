"""Face landmarks: one layout of points.

A face is float32 (L, 2) with L = NUM_LANDMARKS = 238, (x, y) in pixels of the image that it came with:

    0-67    the 68 points of iBUG / the paper (right and left are the person's own)
    68, 69  centre of the right and of the left iris: this is how gaze gets in
    70-76   the hairline, from the person's right temple to the left one
    77-237  the skin between them: cheeks, jaw, nose, the hollows round the eyes

The skin's points steady pose and identity of the face model (head/person_fit.py): those of the face mesh that say most
about where its other vertices lie. A detector that knows only the 68 points completes the rest from them
(``tracking.detectors.complete_landmarks``), so that everything behind a detector sees one layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

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


def mirror_landmarks(landmarks: Points, size: int) -> Points:
    """Landmarks (..., L, 2) of the mirrored picture of side ``size``."""
    mirrored: Points = landmarks[..., MIRROR, :]  # a copy
    mirrored[..., 0] = size - 1 - mirrored[..., 0]
    return mirrored


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance between the outer corners of the eyes, (..., L or 68, 2) -> (...): the field's unit of error."""
    return np.linalg.norm(landmarks[..., 36, :] - landmarks[..., 45, :], axis=-1)


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """Height over width of the left and of the right eye, (..., L, 2) -> (..., 2): about 0.3 open, under 0.1 closed."""
    ratios = []
    for eye in (LEFT_EYE, RIGHT_EYE):
        first, upper_a, upper_b, last, lower_b, lower_a = np.moveaxis(landmarks[..., eye, :], -2, 0)
        heights = np.linalg.norm(upper_a - lower_a, axis=-1) + np.linalg.norm(upper_b - lower_b, axis=-1)
        ratios.append(0.5 * heights / np.maximum(np.linalg.norm(last - first, axis=-1), 1e-6))
    return np.stack(ratios, axis=-1)


def mouth_openness(landmarks: np.ndarray) -> np.ndarray:
    """Gap of the inner lips over the mouth's width, (..., L, 2) -> (...): 0 closed."""
    gap = np.linalg.norm(landmarks[..., 61:64, :] - landmarks[..., [67, 66, 65], :], axis=-1).mean(axis=-1)
    width = np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)
    return gap / np.maximum(width, 1e-6)


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
